"""Names of cases, classes, models and sets in what is drawn and printed: as they are, whatever signs they hold."""

from __future__ import annotations

__all__ = ["as_label"]


def as_label(name: str) -> str:
    """A text that matplotlib draws as ``name``: between two $ it would read mathematics."""
    return name.replace("$", r"\$")
