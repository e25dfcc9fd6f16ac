"""What is stored of a fit: plain finite numbers under fixed names, checked when they are read."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Stored"]


class Stored(BaseModel):
    """Base of all that calibration.json keeps under ``decisions``: frozen, strict, without NaN and infinities."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())
