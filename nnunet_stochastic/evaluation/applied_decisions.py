"""What ``nnunet_stochastic_apply_calibration --method decisions`` wrote, to be judged by references.

decisions.json holds all that was learned, so that what was said of each case is said again from the record of its
prediction, at every level and alpha. structures.csv shows that it was said of these predictions and no others. Masks
are judged by the probabilities that they are made of, but must be there, as far as decisions.json has some.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_stochastic.decisions.decisions import Decisions
from nnunet_stochastic.decisions.review import CaseToReview
from nnunet_stochastic.decisions.structures import STRUCTURES_FILE, StructureRow
from nnunet_stochastic.evaluation.case_sets import ID, CaseSet, SetFolders
from nnunet_stochastic.evaluation.decision_statistics import PredictedStructures, read_structures
from nnunet_stochastic.evaluation.mask_files import mask_files
from nnunet_stochastic.io.names import few
from nnunet_stochastic.io.result_schemas import DecisionsFile
from nnunet_stochastic.io.tables import read_csv_table
from nnunet_stochastic.io.text import FLOAT32_DIGITS, check_content, read_json
from nnunet_stochastic.labels import EvaluatedLabels

__all__ = ["RECORD", "AppliedDecisions", "read_applied_decisions", "read_record", "unassessable"]

#: File of what was applied, and how.
RECORD = "decisions.json"
_AGAIN = "run nnunet_stochastic_apply_calibration --method decisions again"


@dataclass(frozen=True)
class AppliedDecisions:
    """Decisions, and the predictions that they are judged on.

    Attributes
    ----------
    decisions
        What was learned on validation cases.
    alpha
        Share that may be outside of the masks that were written.
    structures
        What the record of the prediction says of each case, by set; sets that cannot be judged are not there.
    left_out
        Why a set is not judged.
    """

    decisions: Decisions
    alpha: float
    structures: Mapping[str, Mapping[str, PredictedStructures]]
    left_out: Mapping[str, str]

    def predicted(self, set_name: str, case: str) -> PredictedStructures | None:
        """What the record says of a case; None where its set is not judged."""
        return self.structures.get(set_name, {}).get(case)


def unassessable(rows: Mapping[str, Sequence[StructureRow]], decisions: Decisions) -> list[str]:
    """What the rows of each case lack that the validation cases had, a line per case."""
    problems = []
    for case, of_case in rows.items():
        try:
            CaseToReview.of(case, of_case, {}, decisions)
        except ValueError as error:
            problems.append(str(error))
    return problems


def read_record(folder: Path) -> tuple[dict[str, Any], Decisions]:
    """Content of decisions.json in a folder, and the decisions in it.

    Raises
    ------
    ValueError
        It is no such file, or damaged.
    """
    path = folder / RECORD
    content = read_json(path, DecisionsFile, remedy=_AGAIN)
    check_content(f"{path}: decisions", content["decisions"], Decisions, remedy=_AGAIN)
    return content, Decisions.model_validate(content["decisions"])


def read_applied_decisions(
    folder: Path, sets: Sequence[CaseSet], folders: Mapping[str, SetFolders], labels: EvaluatedLabels
) -> tuple[AppliedDecisions, list[str]]:
    """Read a folder of decisions about the predictions of ID, and what there is to judge of each set.

    Parameters
    ----------
    folder
        Output folder of ``nnunet_stochastic_apply_calibration --method decisions``.
    sets, folders
        The sets of cases and their folders, ID first. Decisions are judged on shifts as well, where these are
        annotated and predicted as the validation cases.
    labels
        The classes.

    Returns
    -------
    tuple[AppliedDecisions, list[str]]
        The decisions, and what is wrong with the predictions of ID, one line per finding.

    Raises
    ------
    FileNotFoundError, ValueError
        The folder is none of decisions, or they are of other labels or other predictions.
    """
    table = folder / STRUCTURES_FILE
    for file in (folder / RECORD, table):
        if not file.is_file():
            raise FileNotFoundError(
                f"{file} does not exist; name an output folder of nnunet_stochastic_apply_calibration --method "
                "decisions"
            )
    content, decisions = read_record(folder)
    decisions.check_labels(labels.by_name)
    structures: dict[str, Mapping[str, PredictedStructures]] = {}
    left_out: dict[str, str] = {}
    problems: list[str] = []
    for case_set in sets:
        places = folders[case_set.name]
        if places.references is None:
            continue
        names = [case.name for case in case_set.cases]
        found, reason = read_structures(places.predictions, names, labels)
        wrong = [reason] if reason else unassessable({name: each.rows for name, each in found.items()}, decisions)
        if case_set.name == ID:
            problems += wrong or _of_other_predictions(table, found)
            problems += _without_masks(folder, case_set, content["masks"], labels)
            structures[ID] = found
        elif wrong:
            left_out[case_set.name] = wrong[0]
        else:
            structures[case_set.name] = found
    return AppliedDecisions(decisions, float(content["alpha"]), structures, left_out), problems


def _without_masks(folder: Path, case_set: CaseSet, structures: Sequence[str], labels: EvaluatedLabels) -> list[str]:
    """Cases of which a mask was written and is gone, a line for each folder of masks."""
    missing: dict[Path, list[str]] = {}
    for case in case_set.cases:
        for path in mask_files(case, structures, labels):
            if not (folder / path).is_file():
                missing.setdefault(folder / path.parent, []).append(case.name)
    return [f"{place} lacks the masks of {few(cases)}; {_AGAIN}" for place, cases in missing.items()]


def _of_other_predictions(path: Path, predicted: Mapping[str, PredictedStructures]) -> list[str]:
    """Cases that the table has not, or has with another prediction."""
    columns = ("case", "structure", "num_voxels", "expected_voxels")
    table = read_csv_table(path, columns, remedy=_AGAIN)
    said = {
        (row["case"], row["structure"]): numbers
        for (_, row), *numbers in zip(
            table.rows(), table.numbers("num_voxels"), table.numbers("expected_voxels"), strict=True
        )
    }
    missing, different = set(), set()
    for case, found in predicted.items():
        for row in found.rows:
            numbers = said.get((case, row.structure))
            if numbers is None:
                missing.add(case)
            elif numbers[0] != row.num_voxels or not math.isclose(
                numbers[1], row.expected_voxels, rel_tol=10.0 ** (1 - FLOAT32_DIGITS)
            ):
                different.add(case)
    return [
        f"{path} {what} {few(sorted(cases))}; {_AGAIN} on these predictions"
        for what, cases in (("lacks", missing), ("is of other predictions of", different))
        if cases
    ]
