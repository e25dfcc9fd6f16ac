"""The three measures of uncertainty, and the folders of a prediction that hold their maps and the variance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

__all__ = ["FOLDERS", "MAPS", "MEASURES", "Measure"]

Measure = Literal["AU", "EU", "TU"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
FOLDERS: Mapping[Measure, str] = {"AU": "aleatoric", "EU": "epistemic", "TU": "total"}
#: Folders of all maps, in the order in which they are shown.
MAPS = ("total", "aleatoric", "epistemic", "variance")
