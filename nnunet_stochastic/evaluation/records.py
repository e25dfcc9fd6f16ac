"""Records of cases: all that is computed of one case, in a JSON file of its own, records/SET/CASE.json.

The tasks are computed from the records alone. A record carries a fingerprint of what it was made from (names, sizes and
times of the files, and the settings), so that an evaluation that was interrupted goes on where it stopped, and a case
whose files have changed is computed again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_stochastic import __version__, metrics
from nnunet_stochastic.degenerate_samples import Degeneration, degenerate_samples
from nnunet_stochastic.evaluation.aggregation import image_scores
from nnunet_stochastic.evaluation.case_inputs import CaseInputs, CaseSettings, MapInputs
from nnunet_stochastic.evaluation.cases import CaseFiles, load_case
from nnunet_stochastic.evaluation.decision_statistics import PredictedStructures
from nnunet_stochastic.evaluation.scores import ALL_CLASSES, RATERS, REFERENCE, score_case
from nnunet_stochastic.evaluation.spread import COVERAGE_LEVEL, case_spread
from nnunet_stochastic.evaluation.tasks import TASKS
from nnunet_stochastic.io.text import read_json_if_complete, write_text

__all__ = [
    "RecordedCase",
    "bins_from_json",
    "bins_to_json",
    "compute_record",
    "read_record",
    "to_json",
    "write_record",
]

# Another number where a record holds other things: those of before are then computed again.
_FORMAT = 4


@dataclass(frozen=True)
class RecordedCase:
    """A case and where its record is.

    Attributes
    ----------
    files
        Its files.
    path
        File of the record.
    predicted
        What the record of the prediction says of its structures, where decisions about them are judged.
    """

    files: CaseFiles
    path: Path
    predicted: PredictedStructures | None = None


def compute_record(
    files: CaseFiles, settings: CaseSettings, predicted: PredictedStructures | None = None
) -> dict[str, Any]:
    """Everything that is computed of a case that passed ``check_case``, JSON-serializable.

    Returns
    -------
    dict
        ``rows`` of the table of scores, ``reliability`` bins by annotation group and class, ``measures`` with the
        scores and confidence bins of each map, ``image`` with numbers of the whole image, numbers by
        class under the keys of their tasks, what is wrong with the samples, and how raters and samples spread.
        ``None`` where a number does not exist.
    """
    labels, convention = settings.labels, settings.convention
    case = load_case(files, labels, settings.reader)
    scores = {}
    if case.probabilities is not None:
        scores = score_case(case, labels, convention=convention, tolerance_mm=settings.tolerance_mm)
    reliability: dict[str, dict[str, metrics.ReliabilityBins]] = {}
    for annotation, found in scores.items():
        group = reliability.setdefault(REFERENCE if annotation == REFERENCE else RATERS, {})
        for name, bins in found.bins.items():
            group[name] = group[name] + bins if name in group else bins
    dice = float("nan")
    if REFERENCE in scores:
        dice = next(row["dice"] for row in scores[REFERENCE].rows if row["class"] == ALL_CLASSES)
    inputs = CaseInputs(files, case, settings, dice, predicted)
    # Samples are read once for all tasks that need them; the other tasks come first, so that they have the memory.
    image: dict[str, float] = {}
    by_class: dict[str, Mapping[str, Any]] = {task.class_key: {} for task in TASKS if task.class_key}
    for task in sorted(TASKS, key=lambda task: "samples" in task.needs):
        if task.applies(convention):
            image |= task.of_case(inputs)
            by_class |= {task.class_key: task.of_classes(inputs)} if task.class_key else {}
    degenerate = _degeneration(inputs)
    spread = case_spread(inputs)

    inputs = CaseInputs(files, replace(case, probabilities=None), settings, dice)  # the maps need the memory
    del case
    measures = {measure: _score_map(MapInputs.read(inputs, measure)) for measure in files.maps}
    return to_json(
        {
            "case": files.name,
            "rows": [row for found in scores.values() for row in found.rows],
            "reliability": {
                group: {name: bins_to_json(bins) for name, bins in classes.items()}
                for group, classes in reliability.items()
            },
            "measures": measures,
            "image": {
                "dice": dice,
                **image,
                "volume_ml": _foreground_ml(inputs),
                "border_length": metrics.border_length(inputs.prediction),
            },
            **by_class,
            "degenerate_samples": degenerate,
            "spread": spread,
        }
    )


def _score_map(found: MapInputs) -> dict[str, Any]:
    """Scores of a map, and the bins of its confidence."""
    calibration = found.inputs.settings.calibration
    threshold = None if calibration is None else calibration.threshold(found.measure)
    scores: dict[str, Any] = dict(image_scores(found.uncertainty, found.inputs.prediction, threshold=threshold).items())
    for task in TASKS:
        if task.applies(found.inputs.settings.convention):
            scores |= task.of_map(found)
    return scores | {"confidence": None if found.confidence is None else bins_to_json(found.confidence)}


def _degeneration(inputs: CaseInputs) -> Degeneration | None:
    """Whether all samples of a case are empty or fill the image, and the segmentation is or does not."""
    shares = [np.count_nonzero(sample) / sample.size for sample in inputs.samples]
    return degenerate_samples(shares, np.count_nonzero(inputs.prediction) / inputs.prediction.size)


def _foreground_ml(inputs: CaseInputs) -> float:
    """Volume of the predicted foreground in ml; NaN for 2D images."""
    voxel_ml = inputs.case.voxel_ml
    return float("nan") if voxel_ml is None else voxel_ml * np.count_nonzero(inputs.prediction)


def write_record(case: RecordedCase, settings: CaseSettings) -> None:
    """Compute the record of a case and write it to a file."""
    # Taken before the files are read: what changes meanwhile is noticed by the next evaluation.
    identity = _fingerprint(case, settings)
    content = compute_record(case.files, settings, case.predicted)
    record = {"fingerprint": identity, "digest": _digest(content), **content}
    write_text(case.path, json.dumps(record, allow_nan=False) + "\n")


def read_record(case: RecordedCase, settings: CaseSettings) -> dict[str, Any] | None:
    """The record of a case, or None where there is none of these files and settings."""
    record = read_json_if_complete(case.path, dict) or {}
    identity, digest = record.pop("fingerprint", None), record.pop("digest", None)
    is_current = identity == _fingerprint(case, settings) and digest == _digest(record)
    return record if is_current else None


def _fingerprint(case: RecordedCase, settings: CaseSettings) -> str:
    """Digest of the names, sizes and times of a case's files, of its structures and of the settings."""
    files = case.files
    stored = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files.paths]
    content = {
        "version": __version__,
        "format": _FORMAT,
        "files": stored,
        "maps": list(files.maps),
        "num_raters": len(files.raters),
        "structures": None if case.predicted is None else asdict(case.predicted),
        "labels": asdict(settings.labels),
        "reader": type(settings.reader).__name__,
        "convention": asdict(settings.convention),
        "coverage_level": COVERAGE_LEVEL,
        "tolerance_mm": settings.tolerance_mm,
        "calibration": None if settings.calibration is None else settings.calibration.used,
    }
    return _digest(content)


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def bins_to_json(bins: metrics.ReliabilityBins) -> dict[str, list]:
    """Reliability bins as lists."""
    return {name: value.tolist() for name, value in asdict(bins).items()}


def bins_from_json(content: dict[str, list]) -> metrics.ReliabilityBins:
    """The bins of ``bins_to_json``."""
    return metrics.ReliabilityBins(
        np.array(content["count"], dtype=np.int64),
        np.array(content["confidence_sum"], dtype=np.float64),
        np.array(content["correct_sum"], dtype=np.int64),
    )


def to_json(value: Any) -> Any:
    """The same content with ``None`` for NaN, which JSON has not."""
    if isinstance(value, dict):
        return {key: to_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(entry) for entry in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
