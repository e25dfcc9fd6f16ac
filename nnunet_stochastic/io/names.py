"""Names of cases: texts that fit into a line of a table, a log and a terminal."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["check_names", "counted", "few", "is_apple_double", "is_plain", "same_letters", "shortened", "shown"]

_SHOWN = 5
_FEW = 3
_LONGEST_SHOWN = 200
#: Bytes of a name that still fits with a mark and a process number into the 255 of file systems.
_LONGEST_MARKED = 230


def check_names(names: Iterable[str], where: str | Path) -> None:
    """Raise ``ValueError`` for names with bytes that are no UTF-8, line breaks or other control characters.

    Likewise for two names of the same letters: é is one sign, or e and an accent, as macOS writes it.

    Parameters
    ----------
    names
        Names of files or cases.
    where
        Where they are, for the message.
    """
    names = list(names)
    strange = [name for name in names if not is_plain(name)]
    if strange:
        listed = ", ".join(map(ascii, strange[:_SHOWN])) + (
            f" and {len(strange) - _SHOWN} more" * (len(strange) > _SHOWN)
        )
        raise ValueError(f"{where} has names that are not UTF-8, or hold line breaks or other signs: rename {listed}")
    forms: dict[str, set[str]] = defaultdict(set)
    for name in names:
        forms[same_letters(name)].add(name)
    if twins := sorted(name for name, found in forms.items() if len(found) > 1):
        raise ValueError(
            f"{where} has {twins[0]} twice, its letters in two forms of Unicode, and {len(twins) - 1} more: rename one"
        )


def same_letters(name: str) -> str:
    """A name in the form of Unicode that all names of the same letters share."""
    return unicodedata.normalize("NFC", name)


def shortened(name: str) -> str:
    """A name, shortened where file systems would refuse it with a mark; different names stay different."""
    encoded = os.fsencode(name)
    if len(encoded) <= _LONGEST_MARKED:
        return name
    digest = hashlib.blake2b(encoded, digest_size=8).hexdigest()
    return f"{encoded[: _LONGEST_MARKED - len(digest) - 1].decode(errors='ignore')}-{digest}"


def few(names: Sequence[str], what: str = "cases") -> str:
    """Names for a line of a message, with their number where there are more than three: ``40 cases (a, b, c, …)``."""
    return ", ".join(names) if len(names) <= _FEW else f"{len(names)} {what} ({', '.join(names[:_FEW])}, …)"


def counted(number: int, noun: str) -> str:
    """A number and its noun, given in the singular: ``1 case``, ``2 cases``, ``0 classes``, ``3 copies``."""
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("y"):
        return f"{number} {noun[:-1]}ies"
    return f"{number} {noun}{'es' if noun.endswith('s') else 's'}"


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
