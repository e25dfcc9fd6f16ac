"""Records of cases: all that is computed of one case, in a JSON file of its own, records/SET/CASE.json.

The tasks are computed from the records alone. A record carries a fingerprint of what it was made from (names, sizes and
times of the files, and the settings), so that an evaluation that was interrupted goes on where it stopped, and a case
whose files have changed is computed again.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_stochastic import __version__, metrics
from nnunet_stochastic.evaluation.calibration import Calibration
from nnunet_stochastic.evaluation.case_tasks import (
    degeneration,
    distance_to_annotations,
    foreground_ml,
    rater_variance,
    score_measure,
)
from nnunet_stochastic.evaluation.cases import CaseFiles, load_case, read_samples
from nnunet_stochastic.evaluation.challenge import challenge_scores
from nnunet_stochastic.evaluation.conventions import Convention
from nnunet_stochastic.evaluation.labels import EvaluatedLabels
from nnunet_stochastic.evaluation.readers import ImageReader
from nnunet_stochastic.evaluation.scores import ALL_CLASSES, RATERS, REFERENCE, score_case
from nnunet_stochastic.io.text import read_json_if_complete, write_text

__all__ = ["CaseSettings", "bins_from_json", "bins_to_json", "compute_record", "read_record", "to_json", "write_record"]


@dataclass(frozen=True)
class CaseSettings:
    """What decides a record besides the files of its case.

    Attributes
    ----------
    labels
        The classes.
    reader
        nnU-Net's reader of the dataset.
    convention
        The preset.
    calibration
        That of the validation predictions, or None.
    """

    labels: EvaluatedLabels
    reader: ImageReader
    convention: Convention
    calibration: Calibration | None = None


def compute_record(files: CaseFiles, settings: CaseSettings) -> dict[str, Any]:
    """Everything that is computed of a case that passed ``check_case``, JSON-serializable.

    Returns
    -------
    dict
        ``rows`` of the table of scores, ``reliability`` bins by annotation group and class, ``measures`` with the
        scores and confidence bins of each map, ``image`` with numbers of the whole image, ``crps_ml`` and
        ``challenge`` scores by class, and what is wrong with the samples. ``None`` where a number does not exist.
    """
    labels, convention = settings.labels, settings.convention
    case = load_case(files, labels, settings.reader)
    scores = {} if case.probabilities is None else score_case(case, labels, convention=convention)
    reliability: dict[str, dict[str, metrics.ReliabilityBins]] = {}
    for annotation, found in scores.items():
        group = reliability.setdefault(REFERENCE if annotation == REFERENCE else RATERS, {})
        for name, bins in found.bins.items():
            group[name] = group[name] + bins if name in group else bins
    dice = float("nan")
    if REFERENCE in scores:
        dice = next(row["dice"] for row in scores[REFERENCE].rows if row["class"] == ALL_CLASSES)
    challenge = {}
    if convention.challenge_metrics:
        challenge = challenge_scores(case, labels, margin=convention.challenge_margin)
    # Read once for all that is asked of them; without files (0, z, y, x).
    samples = labels.without_ignored(read_samples(files, case, labels, settings.reader))
    ged, crps_ml = distance_to_annotations(samples, case, labels)
    degenerate = degeneration(samples, case, labels)
    del samples

    case = replace(case, probabilities=None)  # the maps need their memory
    ambiguity = rater_variance(case, labels, convention)
    measures = {
        measure: score_measure(
            files,
            case,
            measure,
            ambiguity,
            labels,
            settings.reader,
            convention=convention,
            calibration=settings.calibration,
        )
        for measure in files.maps
    }
    return to_json(
        {
            "case": files.name,
            "rows": [row for found in scores.values() for row in found.rows],
            "reliability": {
                group: {name: bins_to_json(bins) for name, bins in classes.items()}
                for group, classes in reliability.items()
            },
            "measures": {
                measure: {
                    **found.scores,
                    "confidence": None if found.confidence is None else bins_to_json(found.confidence),
                }
                for measure, found in measures.items()
            },
            "image": {
                "dice": dice,
                "risk": 1 - dice,
                **{f"ged_{distance}": value for distance, value in ged.items()},
                "volume_ml": foreground_ml(case, labels),
            },
            "crps_ml": crps_ml,
            "challenge": challenge,
            "degenerate_samples": degenerate,
        }
    )


def write_record(job: tuple[CaseFiles, Path], settings: CaseSettings) -> None:
    """Compute the record of a case and write it to a file."""
    files, path = job
    # Taken before the files are read: what changes meanwhile is noticed by the next evaluation.
    identity = _fingerprint(files, settings)
    record = {"fingerprint": identity, **compute_record(files, settings)}
    write_text(path, json.dumps(record, allow_nan=False) + "\n")


def read_record(path: Path, files: CaseFiles, settings: CaseSettings) -> dict[str, Any] | None:
    """The record of a case, or None where there is none of these files and settings."""
    record = read_json_if_complete(path, dict)
    is_current = record is not None and record.get("fingerprint") == _fingerprint(files, settings)
    return record if is_current else None


def _fingerprint(files: CaseFiles, settings: CaseSettings) -> str:
    """Digest of the names, sizes and times of a case's files and of the settings."""
    stored = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files.paths]
    content = {
        "version": __version__,
        "files": stored,
        "maps": list(files.maps),
        "num_raters": len(files.raters),
        "labels": asdict(settings.labels),
        "reader": type(settings.reader).__name__,
        "convention": asdict(settings.convention),
        "calibration": None if settings.calibration is None else settings.calibration.used,
    }
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
