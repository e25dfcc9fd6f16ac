"""calibration.json: what validation predictions say about a model, made once and used on every test set.

    confidence of a voxel = sigmoid(-(a(-u) + b))        a, b of AU, EU and TU (Platt scaling)
    calibrated probabilities = softmax(ln p / T)         T (temperature scaling)
    threshold of a map = q-quantile of the validation maps, q = mean background fraction of the predictions
    decisions          = intervals, masks, predicted Dice, scores (``decisions.fit_decisions``)

All but the decisions is fitted to sums over voxels, one case at a time. Decisions are fitted to a few hundred numbers
per case and structure, so memory hardly grows with the number of cases.
Annotations are the raters', each a label of its own, or the reference where there are none; voxels with the ignore
label are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_stochastic.decisions import statistics as of_decisions
from nnunet_stochastic.decisions.decisions import Decisions
from nnunet_stochastic.decisions.fitting import fit_decisions
from nnunet_stochastic.evaluation.cases import CaseFiles, EvaluatedCase, load_case, read_case_map
from nnunet_stochastic.evaluation.decision_statistics import (
    PredictedStructures,
    changed_structure,
    decision_statistics,
)
from nnunet_stochastic.evaluation.maps import FOLDERS, MEASURES, Measure
from nnunet_stochastic.evaluation.readers import ImageReader
from nnunet_stochastic.io.result_schemas import CalibrationFile
from nnunet_stochastic.io.text import check_content, read_json
from nnunet_stochastic.labels import EvaluatedLabels
from nnunet_stochastic.metrics import PlattScaling, TemperatureStatistics, UncertaintyHistogram

__all__ = [
    "CALIBRATION_FILE",
    "Calibration",
    "CaseStatistics",
    "ValidationCase",
    "case_statistics",
    "fit_calibration",
]

CALIBRATION_FILE = "calibration.json"

CONVENTIONS = {
    "platt": "sigmoid(-(a(-u) + b)) fitted to whether the prediction equals the annotation, all annotations and voxels "
    "of all cases together, by maximum likelihood from a histogram of u",
    "platt_per_image": "mean over cases of a and b of the fits to single cases; cases with a constant map left out",
    "temperature": "T that minimizes the NLL of the annotations under the predictive mean p^(1/T), normalized",
    "threshold": "quantile of the maps of all cases together; quantile: mean over cases of the share of voxels "
    "that are predicted as background",
    "voxels": "all voxels of the original image; ignore label left out",
    "decisions": "one case of each patient and one rater of each case, drawn with the seed, are a unit of the "
    "conformal intervals; losses of the masks are means over raters, cases and patients",
}


@dataclass(frozen=True)
class Calibration:
    """The content of a calibration.json that passed ``load``."""

    content: Mapping[str, Any]

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read a file of ``nnunet_stochastic_determine_calibration``."""
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} does not exist; make it with nnunet_stochastic_determine_calibration -val {path.parent} -gt …"
            )
        remedy = "it is no calibration.json, make it again with nnunet_stochastic_determine_calibration"
        content = read_json(path, CalibrationFile, remedy=remedy)
        if content.get("decisions") is not None:
            check_content(f"{path}: decisions", content["decisions"], Decisions, remedy=remedy)
        return cls(content)

    def platt(self, measure: Measure, *, per_image: bool = False) -> PlattScaling | None:
        """Platt scaling of a measure, None where it could not be fitted."""
        fit = self.content["platt_per_image" if per_image else "platt"].get(measure)
        return None if fit is None else PlattScaling(float(fit["a"]), float(fit["b"]))

    def threshold(self, measure: Measure) -> float | None:
        """Threshold of a measure's maps in nats."""
        return self.content["threshold"].get(measure)

    @property
    def temperature(self) -> float | None:
        """T, None where the validation predictions had no probabilities."""
        return self.content["temperature"]

    @property
    def decisions(self) -> Decisions | None:
        """What was learned of structures, lesions and images; None where nothing was."""
        content = self.content.get("decisions")
        return None if content is None else Decisions.model_validate(content)

    @property
    def used(self) -> dict[str, Any]:
        """What decides results."""
        return {name: self.content[name] for name in ("platt", "platt_per_image", "temperature", "threshold")}

    @property
    def model(self) -> Mapping[str, Any] | None:
        """Description of the model whose predictions it was made from."""
        return self.content.get("model")

    @property
    def settings(self) -> Mapping[str, Any] | None:
        """How the predictions were made that decisions were fitted to, ``predicted_settings.deciding_settings``."""
        return self.content.get("settings")

    def made_from(self, predictions: Path) -> bool:
        """Whether it was made from this folder of predictions."""
        return (self.content.get("folders") or {}).get("predictions") == str(predictions.resolve())

    @property
    def left_out(self) -> Mapping[str, str]:
        """Why something is missing, by measure."""
        return self.content.get("left_out", {})


@dataclass(frozen=True)
class ValidationCase:
    """A case to read.

    Attributes
    ----------
    files
        Its files.
    patient
        Whom it shows.
    predicted
        What the record of the prediction says of its structures; None where it says nothing.
    """

    files: CaseFiles
    patient: str
    predicted: PredictedStructures | None = None


@dataclass(frozen=True)
class CaseStatistics:
    """What is kept of a validation case.

    Attributes
    ----------
    histograms
        Histogram of each measure over the voxels of all annotations.
    platt
        Fits to this case; a measure with a constant map has none.
    temperature
        Statistics of the probabilities; None without them.
    background
        Share of voxels that are predicted as background.
    decisions
        What decisions are fitted to, or why there is nothing; None where the record says nothing of the structures.
    """

    histograms: dict[Measure, UncertaintyHistogram]
    platt: dict[Measure, PlattScaling]
    temperature: TemperatureStatistics | None
    background: float
    decisions: of_decisions.CaseStatistics | str | None = None


def case_statistics(validation: ValidationCase, labels: EvaluatedLabels, reader: ImageReader) -> CaseStatistics:
    """Statistics of one validation case; each of its files is read once, but for samples."""
    files, predicted = validation.files, validation.predicted
    case = load_case(files, labels, reader)
    prediction = labels.without_ignored(case.prediction)
    histograms, fits = {}, {}
    scores: dict[str, float] = {}
    for measure in files.maps:
        uncertainty = read_case_map(files, case, measure, labels, reader)
        histogram = UncertaintyHistogram.empty()
        for voxels, given in _by_voxels(case, labels):
            histogram += UncertaintyHistogram.of(uncertainty[voxels], given == prediction[voxels])
        histograms[measure] = histogram
        if not histogram.is_constant:
            fits[measure] = PlattScaling.fit(histogram)
        scores |= of_decisions.image_scores({measure: uncertainty}, prediction)
    temperature = None
    if case.probabilities is not None:
        for voxels, targets in _by_voxels(case, labels):
            if labels.has_regions:
                targets = np.stack([labels.target(targets, index) for index in range(len(labels.names))], axis=1)
            found = TemperatureStatistics.of(case.probabilities[:, voxels], targets, regions=labels.has_regions)
            temperature = found if temperature is None else temperature + found
    decisions: of_decisions.CaseStatistics | str | None = None
    if predicted is not None:
        decisions = changed_structure(files, prediction, predicted, labels) or decision_statistics(
            files, case, predicted, labels, reader, patient=validation.patient, scores=scores
        )
    return CaseStatistics(histograms, fits, temperature, float(np.mean(prediction == 0)), decisions)


def _by_voxels(case: EvaluatedCase, labels: EvaluatedLabels) -> Iterator[tuple[Any, np.ndarray]]:
    """Annotations that label the same voxels together: the index of these voxels, and the labels there, (A, n)."""
    groups = [case.annotations] if labels.ignore_label is None else [[annotation] for annotation in case.annotations]
    for group in groups:
        voxels = labels.annotated(group)
        yield voxels, np.stack([annotation[voxels] for annotation in group])


def fit_calibration(
    statistics: Iterable[CaseStatistics],
    *,
    num_raters: int,
    labels: EvaluatedLabels,
    seed: int = 0,
    without_structures: str | None = None,
) -> dict[str, Any]:
    """Content of calibration.json but for folders and model, from the statistics of all cases, one at a time.

    Parameters
    ----------
    statistics
        Of all cases.
    num_raters
        Number of raters, 0 where there is a reference alone.
    labels
        The classes.
    seed
        Seed of the draw of a case of each patient and a rater of each case.
    without_structures
        Why the record of the prediction says nothing of the structures, None where it does.

    Raises
    ------
    ValueError
        There is no case.
    """
    histograms: dict[Measure, UncertaintyHistogram] = {}
    fits: dict[Measure, list[PlattScaling]] = {measure: [] for measure in MEASURES}
    temperature, background = None, []
    decided: list[of_decisions.CaseStatistics] = []
    for case in statistics:
        if isinstance(case.decisions, str):
            without_structures = without_structures or case.decisions
        elif case.decisions is not None:
            decided.append(case.decisions)
        for measure, histogram in case.histograms.items():
            histograms[measure] = histograms[measure] + histogram if measure in histograms else histogram
        for measure, fit in case.platt.items():
            fits[measure].append(fit)
        if case.temperature is not None:
            temperature = case.temperature if temperature is None else temperature + case.temperature
        background.append(case.background)
    if not background:
        raise ValueError("there is no validation case to calibrate with")

    left_out: dict[str, str] = {
        measure: f"there are no {FOLDERS[measure]} maps" for measure in MEASURES if measure not in histograms
    }
    quantile = float(np.mean(background))
    platt, threshold = {}, {"quantile": quantile}
    for measure, histogram in histograms.items():
        threshold[measure] = float(histogram.quantile(quantile))
        if histogram.is_constant:
            left_out[measure] = f"constant ({threshold[measure]:g}) in all voxels"
        else:
            platt[measure] = asdict(PlattScaling.fit(histogram))
    best_temperature = None
    if temperature is None:
        left_out["temperature"] = "the predictions have no probabilities; predict with --save_probabilities"
    elif not (temperature.curvature > 0).any():
        left_out["temperature"] = "the probabilities are uniform in all voxels"
    else:
        best_temperature = temperature.temperature()
    decisions = None
    if without_structures is not None:
        left_out["decisions"] = without_structures
    else:
        decisions = fit_decisions(decided, labels=labels.by_name, seed=seed).model_dump(mode="json")
    return {
        "platt": platt,
        "platt_per_image": {
            measure: {"a": float(np.mean([fit.a for fit in made])), "b": float(np.mean([fit.b for fit in made]))}
            for measure, made in fits.items()
            if made
        },
        "temperature": best_temperature,
        "threshold": threshold,
        "decisions": decisions,
        "num_cases": len(background),
        "num_raters": num_raters,
        "left_out": left_out,
        "conventions": CONVENTIONS,
    }
