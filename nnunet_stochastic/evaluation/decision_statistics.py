"""What a case with references contributes to decisions: its files, and what uncertainty.json says of its structures.

Rows come from the record of the prediction. Its lesions are found again, since which voxels a lesion has is in no file:
those of the segmentation, and candidates where all whole samples were saved. Without these, lesions of the segmentation
alone count, with the existence of the record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_stochastic.decisions.components import components
from nnunet_stochastic.decisions.lesions import Lesion, find_lesions
from nnunet_stochastic.decisions.statistics import CaseStatistics, case_statistics
from nnunet_stochastic.decisions.structures import StructureRow
from nnunet_stochastic.evaluation.cases import CaseFiles, EvaluatedCase, read_sample
from nnunet_stochastic.evaluation.readers import ImageReader
from nnunet_stochastic.io.grid import world_affine
from nnunet_stochastic.io.result_schemas import PredictionRecord
from nnunet_stochastic.io.text import read_json
from nnunet_stochastic.labels import EvaluatedLabels

__all__ = ["PredictedStructures", "changed_structure", "decision_statistics", "read_structures"]

_AGAIN = "predict again with the present nnunet_stochastic_predict"


@dataclass(frozen=True)
class PredictedStructures:
    """What the record of a prediction says of one case.

    Attributes
    ----------
    rows
        Rows of all structures, in the order of the labels.
    lesions
        Lesions and candidates by structure, of those that have lesions.
    min_lesion_ml
        Volume below which a component is none, ml.
    """

    rows: tuple[StructureRow, ...]
    lesions: Mapping[str, tuple[Lesion, ...]]
    min_lesion_ml: float = 0.0


def read_structures(
    prediction_folder: Path, cases: Iterable[str], labels: EvaluatedLabels
) -> tuple[dict[str, PredictedStructures], str | None]:
    """What uncertainty.json says of the structures of each case; nothing, and why, where it lacks some.

    Parameters
    ----------
    prediction_folder
        Output folder of a predict command.
    cases
        Names of the cases.
    labels
        Structures of the data set.
    """
    path, names = prediction_folder / "uncertainty.json", list(cases)
    content = read_json(path, PredictionRecord, remedy="predict again") if path.is_file() else {}
    entries, settings = content.get("cases", {}), content.get("settings", {})
    if without := [name for name in names if "structures" not in entries.get(name, {})]:
        return (
            {},
            f"{path} has no rows of structures for {len(without)} of {len(names)} cases, as {without[0]}; {_AGAIN}",
        )
    found = {}
    for name in names:
        entry = entries[name]
        if entry["structures"].keys() != set(labels.names):
            return {}, (
                f"{path} has rows of {', '.join(entry['structures'])} for {name}, dataset.json has "
                f"{', '.join(labels.names)}; name the right file with -djfile, or {_AGAIN}"
            )
        rows = tuple(StructureRow(structure=structure, **entry["structures"][structure]) for structure in labels.names)
        lesions: dict[str, list[Lesion]] = {structure: [] for structure in settings.get("lesions", ())}
        for lesion in entry.get("lesions", ()):
            lesions.setdefault(lesion["structure"], []).append(Lesion(**lesion))
        by_structure = {structure: tuple(each) for structure, each in lesions.items() if structure in labels.names}
        found[name] = PredictedStructures(rows, by_structure, float(settings.get("min_lesion_ml", 0.0)))
    return found, None


def changed_structure(
    files: CaseFiles, prediction: np.ndarray, predicted: PredictedStructures, labels: EvaluatedLabels
) -> str | None:
    """Why the rows are of another segmentation (*S) than the file's, None where they are its own."""
    for index, row in enumerate(predicted.rows):
        size = int(np.count_nonzero(labels.target(prediction, index)))
        if size != row.num_voxels:
            return (
                f"{files.name}: {files.prediction} has {size} voxels of {row.structure}, uncertainty.json says "
                f"{row.num_voxels}; the segmentation was changed since, {_AGAIN}"
            )
    return None


def decision_statistics(
    files: CaseFiles,
    case: EvaluatedCase,
    predicted: PredictedStructures,
    labels: EvaluatedLabels,
    reader: ImageReader,
    *,
    patient: str,
    scores: Mapping[str, float],
) -> CaseStatistics:
    """Statistics of a case that was read; beside its arrays a few masks are in memory.

    Parameters
    ----------
    files, case
        Its files and arrays, annotations among them.
    predicted
        What the record says of it, of this segmentation.
    labels, reader
        The classes, and nnU-Net's reader of the data set.
    patient
        Whom it shows.
    scores
        Scores of its maps, ``decisions.statistics.image_scores``.
    """
    prediction = labels.without_ignored(case.prediction)
    classes = labels.by_name
    probabilities = case.probabilities
    has_candidates = 0 < len(files.samples) == predicted.rows[0].num_samples
    lesions = {}
    for name in predicted.lesions:
        inside = labels.target(prediction, labels.names.index(name))
        if has_candidates:
            lesions[name] = find_lesions(
                name,
                inside,
                affine=world_affine(case.grid),
                voxel_ml=case.voxel_ml,
                samples=_SampleMasks(files, case, name, labels, reader),
                min_lesion_ml=predicted.min_lesion_ml,
            )
        else:
            recorded = [lesion for lesion in predicted.lesions[name] if not lesion.candidate]
            numbers = components(inside, voxel_ml=case.voxel_ml, min_lesion_ml=predicted.min_lesion_ml)
            lesions[name] = recorded, numbers
    return case_statistics(
        case.name,
        patient,
        segmentation=prediction,
        references=case.annotations,
        classes=classes,
        rows=predicted.rows,
        voxel_ml=case.voxel_ml,
        probabilities=None
        if probabilities is None
        else {name: probabilities[labels.channel(index)] for index, name in enumerate(classes)},
        lesions=lesions,
        has_candidates=has_candidates,
        min_lesion_ml=predicted.min_lesion_ml,
        scores=scores,
        ignore_label=labels.ignore_label,
    )


class _SampleMasks(Sequence):
    """Voxels (*S) of a structure in each sample, read when they are asked for, the memory of one."""

    def __init__(
        self, files: CaseFiles, case: EvaluatedCase, name: str, labels: EvaluatedLabels, reader: ImageReader
    ) -> None:
        self._files, self._case, self._labels, self._reader = files, case, labels, reader
        self._structure = labels.names.index(name)

    def __len__(self) -> int:
        return len(self._files.samples)

    def __getitem__(self, index):  # of an index alone: a slice would be many masks at once
        path = self._files.samples[index]
        return self._labels.target(
            read_sample(path, self._files, self._case, self._labels, self._reader), self._structure
        )
