"""uncertainty.json: with which settings a folder was predicted, and a summary of each case; tables from it.

The entry of a case ties its files to what they came from: ``input_sha256`` has the hashes of all files that were read
for it, ``files`` those of all that were written. Cases that may have files and have no entry, because they did not get
to their end or are of an earlier prediction, are named under ``other_cases``: so every file that predictions wrote into
the folder can be told from others.

Each of ``num_parts`` concurrent commands keeps a record of its own, uncertainty_part{i}of{n}.json, from which
uncertainty.json is put together; a single command writes uncertainty.json alone.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_stochastic.inference.structures import write_tables
from nnunet_stochastic.inference.volumes import VOLUMES_FILE, write_volume_table
from nnunet_stochastic.io.result_schemas import PredictionRecord
from nnunet_stochastic.io.text import as_read_back, read_json_unless_cut, write_json

__all__ = ["EarlierPredictions", "Record", "earlier_predictions"]

# Settings that change no voxel of a file, so a prediction may be continued with others.
_FREE_SETTINGS = {
    "accumulate_on_device",
    "device",
    "maps",
    "model_folder",
    "notes",
    "num_saved_samples",
    "training_data_of_folds",
    "sample_intervals",
    "save_probabilities",
    "versions",
}

_ABSENT = "absent"
_LONGEST_VALUE = 80


@dataclass(frozen=True)
class EarlierPredictions:
    """What the records in a folder say of it.

    Parameters
    ----------
    exist
        Whether there is a record.
    cases
        Cases whose files are or may be there.
    complete
        False where an interruption has cut a record short: it may have named any case.
    """

    exist: bool
    cases: frozenset[str]
    complete: bool

    def own(self, case: str) -> bool:
        """Whether the files of a case are or may be an earlier prediction's."""
        return case in self.cases or not self.complete


def earlier_predictions(folder: Path) -> EarlierPredictions:
    """Read all records of a folder, which need not be there.

    Raises
    ------
    ValueError
        If a file has the name of a record and is none.
    """
    paths = sorted({*folder.glob("uncertainty.json"), *folder.glob("uncertainty_part*of*.json")})
    contents = [_read(path) for path in paths]
    cases = {name for content in contents if content for name in (*content["cases"], *content.get("other_cases", ()))}
    return EarlierPredictions(bool(paths), frozenset(cases), None not in contents)


class Record:
    """The record of one command. Threads may add cases.

    Parameters
    ----------
    folder
        Output folder.
    settings
        Settings that decide the results, and versions and notes.
    resume
        Whether to keep the cases of an earlier command with the same settings; other settings are an error.
    num_parts, part_id
        Number of concurrent commands, as in nnU-Net, and which of them this one is, from 0.
    other_cases
        Cases that may come to have files without an entry: those to predict, and those of earlier predictions.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        *,
        resume: bool = False,
        num_parts: int = 1,
        part_id: int = 0,
        other_cases: Collection[str] = (),
    ) -> None:
        self._folder, self._num_parts = folder, num_parts
        self.path = folder / ("uncertainty.json" if num_parts == 1 else f"uncertainty_part{part_id}of{num_parts}.json")
        self._lock = threading.Lock()
        cases: dict[str, Any] = {}
        if resume and (earlier := _read(self.path)):
            _check_same_settings(self.path, earlier.get("settings", {}), settings)
            cases = earlier["cases"]
        self._content = {"settings": settings, "cases": cases}
        self._other_cases = set(other_cases)
        self._write()

    @property
    def cases(self) -> dict[str, Any]:
        """Entries of this command's cases."""
        return self._content["cases"]

    def add(self, case: str, entry: dict[str, Any]) -> None:
        """Add a case and write the record."""
        with self._lock:
            self._content["cases"][case] = entry
            self._content["cases"] = dict(sorted(self._content["cases"].items()))
            self._write()

    def remove(self, case: str) -> None:
        """Remove the entry of a case, if there is one, and write the record."""
        with self._lock:
            if self._content["cases"].pop(case, None) is not None:
                self._other_cases.add(case)
                self._write()

    def _write(self) -> None:
        write_json(self.path, _with_others(self._content, self._other_cases))

    def finish(self) -> None:
        """Put uncertainty.json together from the parts that are there, and write the tables."""
        merged = None
        # Another part may finish between reading and writing; whoever writes last looks again.
        while merged != (current := self._merge()):
            merged = current
            if self._num_parts > 1:
                write_json(self._folder / "uncertainty.json", merged)
            if any("volume_ml" in entry for entry in merged["cases"].values()):
                write_volume_table(self._folder / VOLUMES_FILE, merged["cases"])
            write_tables(self._folder, merged["cases"])

    def _merge(self) -> dict[str, Any]:
        if self._num_parts == 1:
            return {"settings": self._content["settings"], "cases": dict(self._content["cases"])}
        cases: dict[str, Any] = {}
        others: set[str] = set()
        for part in sorted(self._folder.glob(f"uncertainty_part*of{self._num_parts}.json")):
            content = _read(part)
            if content is None:
                raise ValueError(f"{part}: the file is cut short; predict that part again")
            _check_same_settings(part, content.get("settings", {}), self._content.get("settings", {}))
            cases.update(content["cases"])
            others.update(content.get("other_cases", ()))
        return _with_others({"settings": self._content["settings"], "cases": dict(sorted(cases.items()))}, others)


def _with_others(content: dict[str, Any], others: Collection[str]) -> dict[str, Any]:
    """The content of a record, with the cases that have no entry."""
    left = sorted(set(others) - content["cases"].keys())
    return content | ({"other_cases": left} if left else {})


def _read(path: Path) -> dict[str, Any] | None:
    """Content of a record; ``None`` where there is none, or an interruption has cut it short."""
    remedy = "it is no record of a prediction: choose another output folder"
    return read_json_unless_cut(path, PredictionRecord, remedy=remedy)


def _check_same_settings(path: Path, earlier: dict[str, Any], settings: dict[str, Any]) -> None:
    earlier, settings = as_read_back([earlier, settings])
    deciding = [{key: each[key] for key in each.keys() - _FREE_SETTINGS} for each in (earlier, settings)]
    if different := list(_differences("", *deciding)):
        raise ValueError(
            f"{path} was written with other settings ({'; '.join(different)}); use another output folder or those"
        )


def _differences(place: str, earlier: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(earlier.keys() | settings.keys()):
        was, now = (each.get(key, _ABSENT) for each in (earlier, settings))
        if isinstance(was, dict) and isinstance(now, dict):
            yield from _differences(f"{place}{key}: ", was, now)
        elif was != now:
            yield f"{place}{key} was {_text(was)} and is now {_text(now)}"


def _text(value: Any) -> str:
    text = value if value is _ABSENT else repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]} …"
