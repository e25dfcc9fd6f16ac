"""The three measures of uncertainty, and the folder of a prediction that holds the map of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

__all__ = ["FOLDERS", "MEASURES", "Measure"]

Measure = Literal["AU", "EU", "TU"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
FOLDERS: Mapping[Measure, str] = {"AU": "aleatoric", "EU": "epistemic", "TU": "total"}
