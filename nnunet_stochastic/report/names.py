"""Names of cases, classes, models and sets in what is drawn and printed: as they are, whatever signs they hold."""

from __future__ import annotations

__all__ = ["as_label"]

#: Nothing is drawn of it, and it parts nothing.
_NOTHING = "\u2060"


def as_label(name: str) -> str:
    """A text that matplotlib draws as ``name``, in one line.

    Between two $ it would read mathematics, a legend would leave out what begins with _, and a line break would move
    what stands around it.
    """
    text = " ".join(name.splitlines()).replace("$", r"\$")
    return f"{_NOTHING}{text}" if text.startswith("_") else text
