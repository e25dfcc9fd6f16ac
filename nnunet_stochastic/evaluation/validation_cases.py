"""Validation cases of a folder of predictions: their files, patients, and what the record says of their structures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nnunet_stochastic.evaluation.calibration import ValidationCase
from nnunet_stochastic.evaluation.cases import CaseFiles, find_cases
from nnunet_stochastic.evaluation.decision_statistics import read_structures
from nnunet_stochastic.evaluation.predicted_dataset import PredictedDataset
from nnunet_stochastic.patients import read_patients

__all__ = ["ValidationCases", "find_validation_cases"]


@dataclass(frozen=True)
class ValidationCases:
    """The cases that are predicted and annotated.

    Attributes
    ----------
    cases
        Each with its patient; a case without a known patient is one of its own.
    problems
        What is wrong with the files, one line per finding.
    without_structures
        Why the record of the prediction says nothing of the structures, None where it does.
    """

    cases: list[ValidationCase]
    problems: list[str]
    without_structures: str | None

    @property
    def files(self) -> list[CaseFiles]:
        """The files of each case."""
        return [case.files for case in self.cases]


def find_validation_cases(
    predictions: Path,
    references: Path,
    raters: Path | None,
    dataset: PredictedDataset,
    *,
    groups: Path | None = None,
    probabilities: bool = False,
) -> ValidationCases:
    """Find the cases of a folder of predictions; references may be of more cases, as labelsTr.

    Parameters
    ----------
    predictions, references, raters
        Folders; without raters the reference alone counts.
    dataset
        Data set of the predictions.
    groups
        Table of the patients.
    probabilities
        Whether a case without probabilities is a problem.
    """
    files, problems = find_cases(
        predictions,
        references,
        raters,
        file_ending=dataset.file_ending,
        num_raters=dataset.num_raters,
        allow_missing_predictions=True,
        probabilities=probabilities,
    )
    patients = {case.name: case.name for case in files}
    if groups is not None:
        patients = dict(read_patients(groups, patients))
    predicted, without_structures = read_structures(predictions, patients, dataset.labels)
    cases = [ValidationCase(case, patients[case.name], predicted.get(case.name)) for case in files]
    return ValidationCases(cases, problems, without_structures)
