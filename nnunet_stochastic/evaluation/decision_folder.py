"""Files of decisions about new predictions: masks of each case, and tables of all.

    inner/…, outer/…            masks {p >= λ} (``mask_files``): the structure's label inside, of a region 1
    structures.csv              rows of the prediction, with intervals, predicted Dice, its bounds and expected loss
    lesions.csv                 those of the prediction, where it has some, with the probability that each is there
    review.csv                  all cases, the one to open first on top, and the order in which to label them

Masks of a case are staged together, so they are all there or none counts; the tables come last.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnunet_stochastic.decisions.decisions import AssessedStructure, Decisions
from nnunet_stochastic.decisions.lesions import LESIONS_FILE, Lesion
from nnunet_stochastic.decisions.review import CaseToReview, labelling_features, next_to_label, review
from nnunet_stochastic.decisions.risk_control import Threshold, mask_at
from nnunet_stochastic.decisions.statistics import image_scores
from nnunet_stochastic.decisions.structures import STRUCTURES_FILE
from nnunet_stochastic.evaluation.applied_decisions import RECORD
from nnunet_stochastic.evaluation.cases import CaseFiles, load_case, read_case_map
from nnunet_stochastic.evaluation.decision_statistics import PredictedStructures, changed_structure
from nnunet_stochastic.evaluation.evaluate import raise_problems
from nnunet_stochastic.evaluation.mask_files import MASKS, mask_files, mask_folder
from nnunet_stochastic.evaluation.parallel import Workers
from nnunet_stochastic.evaluation.readers import ImageReader
from nnunet_stochastic.evaluation.written_cases import WrittenCases
from nnunet_stochastic.io.staging import staged_files
from nnunet_stochastic.io.text import FLOAT32_DIGITS, write_table
from nnunet_stochastic.labels import EvaluatedLabels

if TYPE_CHECKING:
    from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

__all__ = [
    "RECORD",
    "REVIEW_FILE",
    "MaskFolder",
    "NewCase",
    "examine",
    "without_unused",
    "write_tables",
]

REVIEW_FILE = "review.csv"
_EPISTEMIC_SCORE = "EU_mean"


@dataclass(frozen=True)
class NewCase:
    """A case to examine.

    Attributes
    ----------
    files
        Those of its files that are read.
    predicted
        What the record of the prediction says of its structures.
    """

    files: CaseFiles
    predicted: PredictedStructures


def without_unused(files: CaseFiles, *, probabilities: bool) -> CaseFiles:
    """The files of a case that are read, with or without its probabilities."""
    return replace(files, probabilities=files.probabilities if probabilities else (), samples=())


def examine(
    cases: Sequence[NewCase],
    labels: EvaluatedLabels,
    reader: ImageReader,
    *,
    problems: Sequence[str] = (),
    workers: Workers,
) -> dict[str, dict[str, float]]:
    """Scores of the image of each case; all files are read, and one error lists all that is wrong.

    Parameters
    ----------
    cases
        The cases.
    labels, reader
        The classes, and nnU-Net's reader of the data set.
    problems
        What is known to be wrong, put in front of the list.
    workers
        Processes that read.
    """
    scores: dict[str, dict[str, float]] = {}
    listed = [*problems]
    raise_problems(listed)  # before what takes minutes
    look = functools.partial(_examine, labels=labels, reader=reader)
    for case, found in zip(cases, workers.map(look, cases, description="examining"), strict=True):
        if isinstance(found, str):
            listed.append(found)
        else:
            scores[case.files.name] = found
    raise_problems(listed)
    return scores


def _examine(new: NewCase, labels: EvaluatedLabels, reader: ImageReader) -> dict[str, float] | str:
    """Scores of a case's image, or what is wrong with its files."""
    files = new.files
    try:
        case = load_case(files, labels, reader)
        prediction = labels.without_ignored(case.prediction)
        if changed := changed_structure(files, prediction, new.predicted, labels):
            return changed
        scores: dict[str, float] = {}
        for measure in files.maps:
            uncertainty = read_case_map(files, case, measure, labels, reader)
            scores |= image_scores({measure: uncertainty}, prediction)
    except (ValueError, OSError, RuntimeError) as error:  # RuntimeError: what the readers raise for broken files
        return f"{files.name}: {error}"
    return scores


@dataclass(frozen=True)
class MaskFolder:
    """Where the masks of each case go, and how they are made.

    Attributes
    ----------
    folder
        The output folder.
    labels, reader
        The classes, and nnU-Net's reader and writer of the dataset.
    thresholds
        λ of both masks of each structure that has some; none where no masks are written.
    """

    folder: Path
    labels: EvaluatedLabels
    reader: BaseReaderWriter
    thresholds: Mapping[str, Threshold]

    @property
    def written(self) -> WrittenCases:
        """Which cases are written, and with what."""
        return WrittenCases(self.folder, RECORD, self._files)

    def outdated(self, case: CaseFiles) -> list[Path]:
        """Masks of a case that an earlier command may have left and that are not written, relative to the folder."""
        return mask_files(case, [name for name in self.labels.names if name not in self.thresholds], self.labels)

    def write(self, case: CaseFiles) -> None:
        """Write the masks of a case: all, or none that counts as complete."""
        from nnunet_stochastic.inference.images import write_labels

        loaded = load_case(case, self.labels, self.reader)
        if loaded.probabilities is None:
            raise ValueError(f"{case.name} lacks probabilities, which its masks are made of")
        with staged_files(self.folder, self._files(case), name=case.name) as staging:
            for structure, threshold in self.thresholds.items():
                index = self.labels.names.index(structure)
                probability = loaded.probabilities[self.labels.channel(index)]
                value = 1 if self.labels.has_regions else self.labels.classes[index][0]
                for which, limit in zip(MASKS, (threshold.inner, threshold.outer), strict=True):
                    mask = np.where(mask_at(probability, limit), value, 0).astype(loaded.prediction.dtype)
                    path = staging / mask_folder(which, structure, self.labels) / case.prediction.name
                    write_labels(mask, path, loaded.grid, type(self.reader))

    def _files(self, case: CaseFiles) -> list[Path]:
        return mask_files(case, list(self.thresholds), self.labels)


def write_tables(
    folder: Path,
    cases: Mapping[str, tuple[PredictedStructures, Mapping[str, float]]],
    decisions: Decisions,
) -> list[str]:
    """Write structures.csv, lesions.csv where structures have lesions, and review.csv; their names.

    Parameters
    ----------
    folder
        The output folder.
    cases
        What the record says of the structures of each case, and the scores of its image.
    decisions
        What was learned on validation cases.
    """
    assessed = {case: CaseToReview.of(case, new.rows, scores, decisions) for case, (new, scores) in cases.items()}
    of_structures = [
        {"case": case, **row.as_columns(), **_columns(found, decisions.levels)}
        for case, (new, _) in cases.items()
        for row, found in zip(new.rows, assessed[case].structures, strict=True)
    ]
    place = _label_order(cases)
    of_review = [{**asdict(row), "label_next": place.get(row.case)} for row in review(list(assessed.values()))]
    tables = {STRUCTURES_FILE: of_structures, REVIEW_FILE: of_review}
    if any(new.lesions for new, _ in cases.values()):
        of_lesions = [
            {"case": case, **lesion.as_columns(), "probability": decisions.existence(lesion)}
            for case, (new, _) in cases.items()
            for lesions in new.lesions.values()
            for lesion in lesions
        ]
        tables = {LESIONS_FILE: of_lesions, **tables}
    columns = {LESIONS_FILE: ["case", *Lesion.columns(), "probability"]}
    for name, rows in tables.items():  # review.csv last
        digits = None if name == REVIEW_FILE else FLOAT32_DIGITS
        write_table(folder / name, columns.get(name) or list(rows[0]), rows, digits=digits)
    return list(tables)


def _columns(found: AssessedStructure, levels: Sequence[float]) -> dict[str, Any]:
    """Values of a row's further columns, always the same columns; infinite ends are inf."""
    columns: dict[str, Any] = {}
    for level in levels:
        low, high = found.intervals_ml.get(level, (None, None))
        columns |= {f"volume_from_ml_{100 * level:g}": low, f"volume_to_ml_{100 * level:g}": high}
    columns["predicted_dice"] = found.predicted_dice
    columns |= {f"dice_at_least_{100 * level:g}": found.dice_at_least.get(level) for level in levels}
    columns["expected_loss"] = found.expected_loss
    return columns


def _label_order(cases: Mapping[str, tuple[PredictedStructures, Mapping[str, float]]]) -> dict[str, int]:
    """Place of each case in the order of labelling, from 1; none without epistemic maps."""
    if any(_EPISTEMIC_SCORE not in scores for _, scores in cases.values()):
        return {}
    order = next_to_label(
        {case: scores[_EPISTEMIC_SCORE] for case, (_, scores) in cases.items()},
        {case: labelling_features(new.rows, scores) for case, (new, scores) in cases.items()},
    )
    return {case: index + 1 for index, case in enumerate(order)}
