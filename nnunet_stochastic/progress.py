"""Progress bars: on a terminal alone, for in a log file each state of a bar would be a line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

__all__ = ["progress_bar"]


def progress_bar(
    items: Iterable[Any] | None = None, *, total: int, description: str, show: bool, leave: bool = True
) -> tqdm:
    """A bar over items, or one to be updated; its ``disable`` says whether it is drawn.

    Parameters
    ----------
    items
        What is gone through.
    total
        Number of steps; without any there is no bar.
    description
        What stands in front of the bar.
    show
        Whether to draw it where standard error is a terminal.
    leave
        Whether it stays when it is full.
    """
    # tqdm takes None for: where it is a terminal.
    return tqdm(items, total=total, desc=description, leave=leave, disable=None if show and total else True)
