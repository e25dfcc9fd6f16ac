"""Settings of a prediction as uncertainty.json records them: which decide its files, and where two of them differ."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

__all__ = ["FREE_SETTINGS", "Difference", "differences"]

#: Settings that change no voxel of a file, so a prediction may be continued with others.
FREE_SETTINGS = frozenset(
    {
        "accumulate_on_device",
        "device",
        "maps",
        "model_folder",
        "notes",
        "num_saved_samples",
        "probability_format",
        "sample_intervals",
        "save_probabilities",
        "training_data_of_folds",
        "versions",
    }
)

#: Place of a value, and the two values as a message tells them.
Difference = tuple[str, str, str]

_ABSENT = "absent"
_LONGEST_VALUE = 80


def differences(
    one: Mapping[str, Any], other: Mapping[str, Any], *, free: Collection[str] = FREE_SETTINGS
) -> list[Difference]:
    """Where two settings differ, by name; those of ``free`` may."""
    deciding = [{key: each[key] for key in each.keys() - set(free)} for each in (one, other)]
    return list(_differences("", *deciding))


def _differences(place: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[Difference]:
    for key in sorted(one.keys() | other.keys()):
        mine, theirs = (each.get(key, _ABSENT) for each in (one, other))
        if isinstance(mine, dict) and isinstance(theirs, dict):
            yield from _differences(f"{place}{key}: ", mine, theirs)
        elif mine != theirs:
            yield f"{place}{key}", _text(mine), _text(theirs)


def _text(value: Any) -> str:
    text = value if value is _ABSENT else repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]} …"
