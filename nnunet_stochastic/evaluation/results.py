"""Results of a set of cases, put together from their records one at a time: tables, and sums of reliability bins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from nnunet_stochastic import metrics
from nnunet_stochastic.degenerate_samples import Degeneration
from nnunet_stochastic.evaluation.conventions import AGGREGATIONS
from nnunet_stochastic.evaluation.maps import MEASURES, Measure
from nnunet_stochastic.evaluation.records import bins_from_json
from nnunet_stochastic.evaluation.scores import METRICS

__all__ = ["IMAGE_COLUMNS", "ROW_COLUMNS", "SCORE_COLUMNS", "SetResults", "collect_results"]

ROW_COLUMNS = ("set", "case", "annotation", "class", *METRICS, "reference_voxels", "predicted_voxels")
GED_COLUMNS = tuple(f"ged_{distance}" for distance in metrics.GED_DISTANCES)
IMAGE_COLUMNS = ("set", "case", "dice", "risk", *GED_COLUMNS, *MEASURES, "ratio", "volume_ml")
SCORE_COLUMNS = ("set", "case", "measure", *AGGREGATIONS, "ncc", "ace")


@dataclass(frozen=True)
class SetResults:
    """Results of a set of N cases; numbers that do not exist are NaN.

    Attributes
    ----------
    name
        Of the set.
    rows
        Scores of the segmentation and probabilities: a row per case, annotation and class.
    images
        Numbers of whole images: a row per case.
    scores
        Scores of the maps: a row per case and measure.
    crps_ml
        Error of the volumes in ml: a row per case, a column per class.
    challenge
        Scores of the CURVAS challenges: a row per case and class, indexed by both.
    reliability
        Bins over all cases, by annotation group (``reference``, ``raters``) and class.
    confidence
        Confidence bins of each case by measure, (N, 3, bins): count, sum of confidences, number correct. Measures
        without confidences are not there.
    degenerate_samples
        What is wrong with the samples of a case, of those with something wrong.
    """

    name: str
    rows: pd.DataFrame
    images: pd.DataFrame
    scores: pd.DataFrame
    crps_ml: pd.DataFrame
    challenge: pd.DataFrame
    reliability: Mapping[str, Mapping[str, metrics.ReliabilityBins]]
    confidence: Mapping[Measure, np.ndarray]
    degenerate_samples: Mapping[str, Degeneration] = field(default_factory=dict)

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

    def pooled_confidence(self, measure: Measure) -> metrics.ReliabilityBins | None:
        """Confidence bins of all cases together."""
        if measure not in self.confidence:
            return None
        count, confidence, correct = self.confidence[measure].sum(axis=0)
        return metrics.ReliabilityBins(count.astype(np.int64), confidence, correct.astype(np.int64))


def collect_results(name: str, records: Iterable[Mapping[str, Any]]) -> SetResults:
    """Put the records of a set together; only what the result needs of each is kept.

    Parameters
    ----------
    name
        Of the set.
    records
        One per case, in order.
    """
    rows, images, scores, crps_ml, challenge = [], [], [], [], []
    reliability: dict[str, dict[str, metrics.ReliabilityBins]] = {}
    confidence: dict[Measure, list[list[list[float]]]] = {}
    degenerate: dict[str, Degeneration] = {}
    for record in records:
        place = {"set": name, "case": record["case"]}
        rows += [place | row for row in record["rows"]]
        for measure, found in record["measures"].items():
            found = dict(found)
            if (bins := found.pop("confidence")) is not None:
                confidence.setdefault(measure, []).append(list(bins.values()))
            scores.append(place | {"measure": measure} | found)
        means = {measure: found["mean"] for measure, found in record["measures"].items()}
        ratio = means["EU"] / means["AU"] if means.get("AU") and "EU" in means else None
        images.append(place | record["image"] | means | {"ratio": ratio})
        crps_ml.append({"case": record["case"]} | record["crps_ml"])
        challenge += [{"case": record["case"], "class": name} | found for name, found in record["challenge"].items()]
        if (found := record["degenerate_samples"]) is not None:
            degenerate[record["case"]] = found
        for group, classes in record["reliability"].items():
            sums = reliability.setdefault(group, {})
            for class_name, content in classes.items():
                bins = bins_from_json(content)
                sums[class_name] = sums[class_name] + bins if class_name in sums else bins
    return SetResults(
        name,
        _table(rows, ROW_COLUMNS, texts=4, integers=2),
        _table(images, IMAGE_COLUMNS, texts=2),
        _table(scores, SCORE_COLUMNS, texts=3),
        pd.DataFrame(crps_ml).set_index("case").astype(np.float64),
        pd.DataFrame(challenge).set_index(["case", "class"]).astype(np.float64) if challenge else pd.DataFrame(),
        reliability,
        {measure: np.array(found, dtype=np.float64) for measure, found in confidence.items()},
        degenerate,
    )


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...], *, texts: int, integers: int = 0) -> pd.DataFrame:
    """A table whose first columns are texts, the last integers, and the others numbers, NaN where there is none."""
    table = pd.DataFrame(rows, columns=list(columns))
    first_integer = len(columns) - integers
    numbers = dict.fromkeys(columns[texts:first_integer], np.float64)
    return table.astype(numbers | dict.fromkeys(columns[first_integer:], np.int64))
