"""Files that a command writes for each case of a folder, and the record of what they were made with.

An interrupted command can be continued: the record stands before the first file, so what is there is of the record, and
a case counts when all its files are whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_stochastic.evaluation.cases import CaseFiles
from nnunet_stochastic.io.staging import remove_leftovers
from nnunet_stochastic.io.text import as_read_back, read_json, write_json
from nnunet_stochastic.io.written import has_right_checksums, is_whole
from nnunet_stochastic.recorded_settings import differences

__all__ = ["WrittenCases"]


@dataclass(frozen=True)
class WrittenCases:
    """The files of each case, and their record.

    Attributes
    ----------
    folder
        The output folder.
    record_name
        File name of the record.
    files_of
        Files of a case, relative to the folder, the one that makes it complete last; none where it needs none.
    """

    folder: Path
    record_name: str
    files_of: Callable[[CaseFiles], list[Path]]

    def pending(self, cases: Sequence[CaseFiles], record: Mapping[str, Any]) -> list[CaseFiles]:
        """The cases that an earlier command with the same record has not written; all where there was none.

        Raises
        ------
        ValueError
            The folder is of another method or calibration, or of other predictions.
        """
        path = self.folder / self.record_name
        if not path.is_file():
            return list(cases)
        earlier = read_json(path, dict, remedy="leave --continue_calibration out")
        if different := differences(earlier, as_read_back(record), free=()):
            place, was, now = different[0]
            raise ValueError(
                f"{path} is of another method or calibration, or of other predictions ({place} was {was} and is now "
                f"{now}): use another output folder or leave --continue_calibration out"
            )
        return [case for case in cases if not self.is_complete(case)]

    def is_complete(self, files: CaseFiles) -> bool:
        """Whether all files of a case are there, whole and undamaged, and none of its own was changed since."""
        written = [self.folder / file for file in self.files_of(files)]
        if not all(is_whole(file) and has_right_checksums(file) for file in written):
            return False
        changed = max(path.stat().st_mtime_ns for path in files.paths)
        return all(changed <= file.stat().st_mtime_ns for file in written)

    def begin(self, pending: Sequence[CaseFiles], record: Mapping[str, Any], *, outdated: Sequence[Path] = ()) -> None:
        """Write the record; files of pending cases that are of an earlier one are gone before it is there.

        Parameters
        ----------
        pending
            Cases that are written next.
        record
            What decides the files.
        outdated
            Files of an earlier record that are not written again, relative to the folder.
        """
        remove_leftovers(self.folder, {case.name for case in pending})
        for file in [*outdated, *(file for case in pending for file in self.files_of(case)[-1:])]:
            (self.folder / file).unlink(missing_ok=True)
        write_json(self.folder / self.record_name, record)
