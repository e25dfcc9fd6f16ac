"""What the tasks are given of one case, and of one of its uncertainty maps.

Annotations are the raters', or the reference where there are none; ambiguity needs raters. Voxels with the ignore label
are left out of every comparison with an annotation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nnunet_stochastic import metrics
from nnunet_stochastic.conventions import Convention
from nnunet_stochastic.evaluation.calibration import Calibration
from nnunet_stochastic.evaluation.cases import CaseFiles, EvaluatedCase, read_case_map, read_samples
from nnunet_stochastic.evaluation.decision_statistics import PredictedStructures
from nnunet_stochastic.evaluation.maps import Measure
from nnunet_stochastic.evaluation.readers import ImageReader
from nnunet_stochastic.evaluation.structure_scores import SURFACE_TOLERANCE_MM
from nnunet_stochastic.labels import EvaluatedLabels

__all__ = ["CONFIDENCE_BINS", "CaseInputs", "CaseSettings", "MapInputs"]

CONFIDENCE_BINS = 20


@dataclass(frozen=True)
class CaseSettings:
    """What decides the numbers of a case besides its files.

    Attributes
    ----------
    labels
        The classes.
    reader
        nnU-Net's reader of the dataset.
    convention
        The preset.
    calibration
        Calibration on the validation predictions, or None.
    tolerance_mm
        Tolerance of the normalised surface Dice, >= 0, mm.
    """

    labels: EvaluatedLabels
    reader: ImageReader
    convention: Convention
    calibration: Calibration | None = None
    tolerance_mm: float = SURFACE_TOLERANCE_MM

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance_mm < np.inf:
            raise ValueError(f"tolerance_mm must be finite and at least 0, got {self.tolerance_mm}")


@dataclass(frozen=True)
class CaseInputs:
    """A case that was read, and what several tasks need of it, computed when it is first asked for.

    Attributes
    ----------
    files, case
        Paths and arrays of the case.
    settings
        Classes, reader, convention and calibration.
    dice
        Mean Dice of the foreground classes against the reference, NaN without a reference or where it does not exist.
    predicted
        What the record of the prediction says of its structures, where decisions about them are judged.
    """

    files: CaseFiles
    case: EvaluatedCase
    settings: CaseSettings
    dice: float = float("nan")
    predicted: PredictedStructures | None = None

    @property
    def labels(self) -> EvaluatedLabels:
        """The classes."""
        return self.settings.labels

    @cached_property
    def prediction(self) -> np.ndarray:
        """Segmentation (z, y, x) with background for the ignore label, integer."""
        return self.labels.without_ignored(self.case.prediction)

    @cached_property
    def samples(self) -> np.ndarray:
        """Sampled segmentations (N, z, y, x) with background for the ignore label, integer; N = 0 without files."""
        return self.labels.without_ignored(read_samples(self.files, self.case, self.labels, self.settings.reader))

    @cached_property
    def overlaps(self) -> np.ndarray:
        """Common voxels of the N samples, then the A annotations, as ``co_occurrence`` counts, (classes, N + A, N + A).

        Of the voxels that all annotations label, of which there must be at least one.
        """
        valid = self.labels.annotated(self.case.annotations)
        maps = [self.samples, np.stack(self.case.annotations)]
        flat = [group[:, valid].reshape(len(group), -1) for group in maps if len(group)]
        return metrics.co_occurrence(*flat, classes=self.labels.classes)

    @cached_property
    def rater_variance(self) -> np.ndarray | None:
        """Variance over raters of the n voxels that all of them labelled, (n,), float32; None below two raters."""
        raters = self.case.raters
        if len(raters) < 2:
            return None
        annotations = np.stack(raters)[:, self.labels.annotated(raters)]
        return metrics.annotation_variance(
            annotations.reshape(len(annotations), -1),
            num_labels=self.labels.num_labels,
            codes=self.settings.convention.label_codes,
        )


@dataclass(frozen=True)
class MapInputs:
    """One uncertainty map of a case.

    Attributes
    ----------
    inputs
        The case.
    measure
        AU, EU or TU.
    uncertainty
        The map, (z, y, x), nats.
    """

    inputs: CaseInputs
    measure: Measure
    uncertainty: np.ndarray

    @classmethod
    def read(cls, inputs: CaseInputs, measure: Measure) -> MapInputs:
        """Read a map of a case."""
        uncertainty = read_case_map(inputs.files, inputs.case, measure, inputs.labels, inputs.settings.reader)
        return cls(inputs, measure, uncertainty)

    @cached_property
    def confidence(self) -> metrics.ReliabilityBins | None:
        """Bins of the confidence against being right, over all annotations; None without calibration or annotations."""
        calibration, convention = self.inputs.settings.calibration, self.inputs.settings.convention
        platt = None if calibration is None else calibration.platt(self.measure, per_image=convention.per_image_platt)
        if platt is None or not self.inputs.case.annotations:
            return None
        confidence = platt.confidence(self.uncertainty)
        bins = None
        for annotation in self.inputs.case.annotations:
            valid = self.inputs.labels.annotated([annotation])
            found = metrics.reliability_bins(
                confidence[valid].ravel(),
                (self.inputs.prediction == annotation)[valid].ravel(),
                num_bins=CONFIDENCE_BINS,
            )
            bins = found if bins is None else bins + found
        return bins
