"""Names of cases: texts that fit into a line of a table, a log and a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["check_names", "is_apple_double", "is_plain", "shown"]

_SHOWN = 5
_LONGEST_SHOWN = 200


def check_names(names: Iterable[str], where: str | Path) -> None:
    """Raise ``ValueError`` for names with bytes that are no UTF-8, line breaks or other control characters.

    Parameters
    ----------
    names
        Names of files or cases.
    where
        Where they are, for the message.
    """
    strange = [name for name in names if not is_plain(name)]
    if strange:
        shown = ", ".join(map(ascii, strange[:_SHOWN])) + (
            f" and {len(strange) - _SHOWN} more" * (len(strange) > _SHOWN)
        )
        raise ValueError(f"{where} has names that are not UTF-8, or hold line breaks or other signs: rename {shown}")


def shown(value: Any) -> str:
    """A value as it is told in a message: of a long one the beginning."""
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def is_apple_double(name: str) -> bool:
    """Whether a file is what macOS leaves beside each file of a foreign disk: ``._case_0000.nii.gz``, no image."""
    return name.startswith("._")


def is_plain(name: str) -> bool:
    """Whether a text has no line breaks, other control characters, or bytes that are no UTF-8."""
    # Lone surrogates are how Python spells such bytes.
    return not any(ord(sign) < 32 or 127 <= ord(sign) < 160 or 0xD800 <= ord(sign) < 0xE000 for sign in name) and not (
        {"\u2028", "\u2029"} & set(name)
    )
