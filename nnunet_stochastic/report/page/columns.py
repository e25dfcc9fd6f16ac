"""Columns of the list of cases: what they are called, how wide they are, and in which order they sort first."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["EVALUATION_COLUMNS", "OF_IMAGES", "ListColumn"]


@dataclass(frozen=True)
class ListColumn:
    """A column.

    Attributes
    ----------
    field
        Key of its values in a row.
    title
        Heading.
    width
        Width in pixels.
    kind
        "number", "count" (a whole number), "share" (shown in percent) or "text".
    direction
        1 where a larger number is better, -1 where a smaller one is, 0 for neither.
    first
        Order after the first click on the heading, "asc" or "desc".
    below
        Key of a text that stands under the number, such as its interval.
    of_epistemic
        Whether the row's ``mark`` stands behind it.
    """

    field: str
    title: str
    width: int = 52
    kind: Literal["number", "count", "share", "text"] = "number"
    direction: int = 0
    first: Literal["asc", "desc"] = "desc"
    below: str = ""
    of_epistemic: bool = False

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


#: Means of the maps over the image, nats.
OF_IMAGES = (
    ListColumn("TU", "TU", 66),
    ListColumn("AU", "AU", 66),
    ListColumn("EU", "EU", 74, of_epistemic=True),
)
#: Of an evaluation.
EVALUATION_COLUMNS = (
    ListColumn("dice", "Dice", 50, direction=1, first="asc"),
    *OF_IMAGES,
    ListColumn("ratio", "EU/AU", 66, of_epistemic=True),
    ListColumn("volume_ml", "ml", 50),
    ListColumn("ged_iou", "GED (1 - IoU)", direction=-1),
    ListColumn("ged_dice", "GED (1 - Dice)", direction=-1),
)
