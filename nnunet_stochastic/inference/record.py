"""uncertainty.json: with which settings a folder was predicted, and a summary of each case; volumes.csv from it.

Each of ``num_parts`` concurrent commands keeps a record of its own, uncertainty_part{i}of{n}.json, from which
uncertainty.json is put together; a single command writes uncertainty.json alone.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from nnunet_stochastic.inference.volumes import write_volume_table
from nnunet_stochastic.io.schemas import PredictionRecord
from nnunet_stochastic.io.text import as_read_back, is_blank, read_json, write_json

__all__ = ["Record"]

# Settings that change no voxel of a file, so a prediction may be continued with others.
_FREE_SETTINGS = {
    "accumulate_on_device",
    "device",
    "maps",
    "model_folder",
    "notes",
    "num_saved_samples",
    "save_probabilities",
    "versions",
}


class Record:
    """The record of one command. Threads may add cases.

    Parameters
    ----------
    folder
        Output folder.
    settings
        Settings that decide the results, and versions and notes.
    resume
        Keep the cases of an earlier command with the same settings; other settings are an error.
    num_parts, part_id
        Number of concurrent commands, as in nnU-Net, and which of them this one is, from 0.
    """

    def __init__(
        self, folder: Path, settings: dict[str, Any], *, resume: bool = False, num_parts: int = 1, part_id: int = 0
    ) -> None:
        self._folder, self._num_parts = folder, num_parts
        self.path = folder / ("uncertainty.json" if num_parts == 1 else f"uncertainty_part{part_id}of{num_parts}.json")
        self._lock = threading.Lock()
        cases: dict[str, Any] = {}
        if resume and self.path.is_file() and not is_blank(self.path):
            earlier = read_json(self.path, PredictionRecord, remedy="predict into another output folder")
            _check_same_settings(self.path, earlier.get("settings", {}), settings)
            cases = earlier["cases"]
        self._content = {"settings": settings, "cases": cases}
        write_json(self.path, self._content)

    @property
    def cases(self) -> dict[str, Any]:
        """Entries of this command's cases."""
        return self._content["cases"]

    def add(self, case: str, entry: dict[str, Any]) -> None:
        """Add a case and write the record."""
        with self._lock:
            self._content["cases"][case] = entry
            self._content["cases"] = dict(sorted(self._content["cases"].items()))
            write_json(self.path, self._content)

    def finish(self) -> None:
        """Put uncertainty.json together from the parts that are there, and write the table of volumes."""
        merged = None
        # Another part may finish between reading and writing; whoever writes last looks again.
        while merged != (current := self._merge()):
            merged = current
            if self._num_parts > 1:
                write_json(self._folder / "uncertainty.json", merged)
            if any("volume_ml" in entry for entry in merged["cases"].values()):
                write_volume_table(self._folder / "volumes.csv", merged["cases"])

    def _merge(self) -> dict[str, Any]:
        if self._num_parts == 1:
            return {"settings": self._content["settings"], "cases": dict(self._content["cases"])}
        cases = {}
        for part in sorted(self._folder.glob(f"uncertainty_part*of{self._num_parts}.json")):
            content = read_json(part, PredictionRecord, remedy="predict that part again")
            _check_same_settings(part, content.get("settings", {}), self._content["settings"])
            cases.update(content["cases"])
        return {"settings": self._content["settings"], "cases": dict(sorted(cases.items()))}


def _check_same_settings(path: Path, earlier: dict[str, Any], settings: dict[str, Any]) -> None:
    earlier, settings = as_read_back([earlier, settings])
    different = [
        f"{key} was {earlier.get(key)!r} and is now {settings.get(key)!r}"
        for key in sorted((earlier.keys() | settings.keys()) - _FREE_SETTINGS)
        if earlier.get(key) != settings.get(key)
    ]
    if different:
        raise ValueError(
            f"{path} was written with other settings: {'; '.join(different)}. Use another output folder or those"
        )
