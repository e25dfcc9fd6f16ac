"""What is stored of a fit: plain finite numbers under fixed names, checked when they are read."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from nnunet_stochastic.io.schemas import rule

__all__ = ["Ascending", "Count", "Positive", "Share", "Stored", "require"]


class Stored(BaseModel):
    """Base of all that calibration.json keeps under ``decisions``: frozen, strict, without NaN and infinities."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


def require(holds: bool, what: str) -> None:
    """Raise the error of a validator unless something holds."""
    if not holds:
        raise rule(what)


def _ascending(values: list[float]) -> list[float]:
    require(all(low < high for low, high in pairwise(values)), "must ascend")
    return values


Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
#: Levels, or shares: in (0, 1), ascending, each once.
Ascending = Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1), AfterValidator(_ascending)]
