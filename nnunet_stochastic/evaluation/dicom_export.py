"""Predictions as DICOM objects that refer to the series that the images are: a folder of objects for each case.

    CASE/segmentation.dcm                                                   Segmentation, binary
    CASE/total.dcm  aleatoric.dcm  epistemic.dcm  variance.dcm              Parametric Map, those that there are
    CASE/probabilities.dcm                                                  Segmentation, fractional
    records/CASE.json                                                       what they were made of, and their hashes
    export.json                                                             which predictions they are of

The files of a case are staged together with their record, which comes last: they are all there, or none counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_stochastic.dicom.codes import read_codes
from nnunet_stochastic.dicom.kinds import KINDS
from nnunet_stochastic.dicom.objects import save
from nnunet_stochastic.evaluation.cases import CaseFiles
from nnunet_stochastic.evaluation.dicom_case import DicomCase, files_of_kind
from nnunet_stochastic.evaluation.predicted_dataset import PredictedDataset
from nnunet_stochastic.io.hashing import file_sha256
from nnunet_stochastic.io.names import few
from nnunet_stochastic.io.result_schemas import DicomRecord, PredictionRecord
from nnunet_stochastic.io.staging import remove_leftovers, staged_files
from nnunet_stochastic.io.text import as_read_back, read_json, read_json_if_complete, write_json

__all__ = ["DicomExport"]

_RECORD, _RECORDS = "export.json", "records"
_LONGEST_LABEL = 64


@dataclass(frozen=True)
class DicomExport:
    """Where the objects of each case go, and what they are made of.

    Attributes
    ----------
    predictions, folder
        Folder of predictions, and output folder.
    dataset, record
        What the predictions say of their data set, and content of their uncertainty.json.
    series
        Folders of the series of each case, one per channel.
    kinds
        What is written, of ``KINDS``.
    codes
        What each structure is, as ``read_codes`` gives it.
    """

    predictions: Path
    folder: Path
    dataset: PredictedDataset
    record: Mapping[str, Any]
    series: Mapping[str, tuple[Path, ...]]
    kinds: tuple[str, ...]
    codes: Mapping[str, Mapping[str, Any]]

    @classmethod
    def plan(
        cls,
        predictions: Path,
        folder: Path,
        dataset: PredictedDataset,
        series: Mapping[str, tuple[Path, ...]],
        cases: Sequence[CaseFiles],
        *,
        kinds: Sequence[str] | None = None,
        codes_file: Path | None = None,
    ) -> tuple[DicomExport, list[str]]:
        """Decide what is written, and list what is missing, one line per finding.

        Parameters
        ----------
        predictions, folder, dataset, series
            Attributes of the class; series of further cases may be there.
        cases
            The cases of the predictions.
        kinds
            What is asked for; default: all that there is.
        codes_file
            File of codes, see ``dicom.codes``.
        """
        record = read_json(
            predictions / "uncertainty.json",
            PredictionRecord,
            remedy="what nnunet_stochastic_predict has written is exported, which says there what made it",
        )
        labels = dataset.labels
        if strange := [name for name in labels.names if len(name) > _LONGEST_LABEL or "\\" in name]:
            raise ValueError(
                f"dataset.json has labels of more than {_LONGEST_LABEL} characters or with a backslash, which DICOM "
                f"does not take: {few(strange, 'labels')}; name them otherwise in a copy of it, and that with -djfile"
            )
        problems = []
        if without := [case.name for case in cases if case.name not in series]:
            problems.append(f"{few(without)}: no folder of that name in -dicom")
        lacking = {
            kind: [case.name for case in cases if not files_of_kind(case, kind, dataset.file_ending)] for kind in KINDS
        }
        chosen = tuple(
            kind for kind in KINDS if (kind in kinds if kinds is not None else len(lacking[kind]) < len(cases))
        )
        for kind in chosen:
            if lacking[kind]:
                problems.append(f"{few(lacking[kind])}: no {kind}; predict again with it, or leave it out")
        codes = read_codes(codes_file, labels.names)
        return cls(predictions, folder, dataset, record, series, chosen, codes), problems

    def check_free(self, cases: Sequence[CaseFiles]) -> None:
        """Raise ``ValueError`` where files lie in the output folder that no export has written."""
        taken = [f"{case.name}/" for case in cases if (self.folder / case.name).exists()]
        if taken and not (self.folder / _RECORD).is_file():
            raise ValueError(
                f"{self.folder} holds {few(taken, 'folders')}, which no export has written: choose another output "
                "folder with -o"
            )

    def begin(self, cases: Sequence[CaseFiles]) -> None:
        """Write the record of the folder, which stands before its first file."""
        remove_leftovers(self.folder, {case.name for case in cases})
        write_json(self.folder / _RECORD, {"predictions": str(self.predictions.resolve())})

    def state(self, case: CaseFiles) -> bool | str:
        """Whether the objects of a case are there, undamaged, and what would be written; or what is wrong with it."""
        try:
            read = self._read(case)
            read.check_headers()
            made_of = read.made_of(self.kinds)
        except (ValueError, OSError, RuntimeError) as error:  # RuntimeError: what the readers raise for broken files
            return f"{case.name}: {error}"
        record = read_json_if_complete(self.folder / _record_file(case), DicomRecord)
        if record is None or record["made_of"] != as_read_back(made_of):
            return False
        files = {self.folder / name: digest for name, digest in record["files"].items()}
        return all(file.is_file() and file_sha256(file) == digest for file, digest in files.items())

    def write(self, case: CaseFiles) -> None:
        """Write the objects of a case: all, or none that counts."""
        read = self._read(case)
        files = {kind: _object_file(case, kind) for kind in KINDS}
        for kind in set(KINDS) - set(self.kinds):  # of an earlier export that wrote more
            (self.folder / files[kind]).unlink(missing_ok=True)
        written = [*(files[kind] for kind in self.kinds), _record_file(case)]
        with staged_files(self.folder, written, name=case.name) as staging:
            for kind in self.kinds:
                save(read.make(kind), staging / files[kind])
            hashes = {files[kind].as_posix(): file_sha256(staging / files[kind]) for kind in self.kinds}
            write_json(staging / _record_file(case), {"made_of": read.made_of(self.kinds), "files": hashes})

    def _read(self, case: CaseFiles) -> DicomCase:
        return DicomCase.read(case, self.series[case.name], self.dataset, self.record, self.codes)


def _object_file(case: CaseFiles, kind: str) -> Path:
    return Path(case.name) / f"{kind}.dcm"


def _record_file(case: CaseFiles) -> Path:
    return Path(_RECORDS) / f"{case.name}.json"
