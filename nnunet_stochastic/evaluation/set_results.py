"""Results of a set of cases, as the tasks take them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from nnunet_stochastic import metrics
from nnunet_stochastic.degenerate_samples import Degeneration
from nnunet_stochastic.evaluation.maps import Measure

__all__ = ["SetResults"]


@dataclass(frozen=True)
class SetResults:
    """Results of a set of N cases; numbers that do not exist are NaN.

    Attributes
    ----------
    name
        Name of the set.
    rows
        Scores of the segmentation and probabilities: a row per case, annotation and class.
    images
        Numbers of whole images: a row per case.
    scores
        Scores of the maps: a row per case and measure.
    by_class
        Numbers of the classes, or other plain data, that a task has of each case, by name of the task: case -> what
        the task's ``of_classes`` gave, with ``None`` for NaN.
    reliability
        Bins over all cases, by annotation group (``reference``, ``raters``) and class.
    confidence
        Confidence bins of each case by measure, (N, 3, bins): count, sum of confidences, number correct. Measures
        without confidences are not there.
    case_reliability
        Reliability bins of each case, by group and class: count, sum of confidences, number correct, (N, 3, bins).
    curves
        Curves that tasks have of the maps, by measure and name, (N, P); NaN where there is none.
    degenerate_samples
        What is wrong with the samples of a case, for the cases with something wrong.
    spread
        Means over the cases of what ``case_spread`` gave.
    case_spread
        The numbers of ``case_spread`` of each case by name, (N,); NaN where there is none.
    num_raters, num_samples
        Number of raters and of samples of each case.
    has_reference
        Whether the cases have a reference.
    """

    name: str
    rows: pd.DataFrame
    images: pd.DataFrame
    scores: pd.DataFrame
    by_class: Mapping[str, Mapping[str, Mapping[str, Any]]]
    reliability: Mapping[str, Mapping[str, metrics.ReliabilityBins]]
    confidence: Mapping[Measure, np.ndarray]
    case_reliability: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    curves: Mapping[Measure, Mapping[str, np.ndarray]] = field(default_factory=dict)
    degenerate_samples: Mapping[str, Degeneration] = field(default_factory=dict)
    spread: Mapping[str, float] = field(default_factory=dict)
    case_spread: Mapping[str, np.ndarray] = field(default_factory=dict)
    num_raters: int = 0
    num_samples: int = 0
    has_reference: bool = False

    @property
    def cases(self) -> list[str]:
        """Names of the cases."""
        return self.images["case"].tolist()

    def score(self, measure: Measure, column: str) -> np.ndarray:
        """A column of the scores of a measure, (N,); all NaN for a measure without maps."""
        values = self.scores.loc[self.scores["measure"] == measure, column].to_numpy(dtype=np.float64)
        return values if len(values) else np.full(len(self.images), np.nan)

    def image(self, column: str) -> np.ndarray:
        """A column of the images, (N,)."""
        return self.images[column].to_numpy(dtype=np.float64)

    @property
    def has_border(self) -> np.ndarray:
        """Whether any border is predicted, (N,), bool: not where the segmentation is empty or fills the image."""
        return self.image("border_length") > 0

    def pooled_confidence(self, measure: Measure) -> metrics.ReliabilityBins | None:
        """Confidence bins of all cases together."""
        if measure not in self.confidence:
            return None
        count, confidence, correct = self.confidence[measure].sum(axis=0)
        return metrics.ReliabilityBins(count.astype(np.int64), confidence, correct.astype(np.int64))
