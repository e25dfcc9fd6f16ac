"""Conventions: the choices in which published evaluations of uncertainty differ, under a name.

    entanglement   Christensen et al., Rethinking Uncertainty Quantification and Entanglement in Image Segmentation, 3.4
    values         Kahl et al., ValUES, ICLR 2024, https://arxiv.org/abs/2401.08501
    curvas         entanglement, and the metrics of the CURVAS challenges on calibration and volume with several raters

Everything that the three share is in ``CONVENTIONS``. The text of both goes into every summary.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

__all__ = ["AGGREGATIONS", "CONVENTIONS", "PRESETS", "Aggregation", "Convention", "find_convention"]

Aggregation = Literal["mean", "patch", "threshold", "area", "border"]

# How a map becomes the score of an image.
AGGREGATIONS: dict[Aggregation, str] = {
    "mean": "mean over all voxels",
    "patch": "largest mean of a patch of 10 voxels per axis, or the whole axis where that is shorter",
    "threshold": "mean of the voxels at or above the threshold of calibration.json, 0 if there is none",
    "area": "sum divided by the number of predicted foreground voxels, by 1 if there is none",
    "border": "sum divided by the number of neighbouring voxels with different predicted labels, by 1 if there is none",
}


@dataclass(frozen=True)
class Convention:
    """What a preset decides.

    Attributes
    ----------
    name
        Of the preset.
    aggregation
        Score of an image for OOD and failure detection.
    per_image_platt
        Platt parameters are the mean of those of the validation images, not fitted to all of their voxels together.
    per_image_ace
        Calibration errors are the mean of those of the images, not of the bins of all images together.
    label_codes
        Ambiguity is the variance of the label numbers, not of the one-hot labels summed over labels.
    distance
        Of two segmentations, for GED: 1 - IoU or 1 - Dice.
    challenge_metrics
        Compute the metrics of the CURVAS challenges.
    """

    name: str
    aggregation: Aggregation = "border"
    per_image_platt: bool = False
    per_image_ace: bool = False
    label_codes: bool = False
    distance: Literal["iou", "dice"] = "iou"
    challenge_metrics: bool = False

    def describe(self) -> dict[str, str]:
        """The choices in words, for summary.json."""
        text = {
            "preset": self.name,
            "OODD": f"AUROC of the image score, out of distribution = 1, mean over shifts; score: "
            f"{self.aggregation} ({AGGREGATIONS[self.aggregation]})",
            "AMB": "normalized cross-correlation of the map and the variance over raters of "
            + ("the label numbers" if self.label_codes else "the one-hot labels, summed over labels")
            + "; mean over cases; a constant map or full agreement is 0",
            "CAL": "average calibration error, 20 equal bins on [0, 1], of sigmoid(-(a(-u) + b)); a, b: "
            + ("mean of the fits to each validation image" if self.per_image_platt else "one fit to all of validation")
            + "; "
            + ("mean over images" if self.per_image_ace else "all images together")
            + "; correct: the prediction equals the rater, all raters (the reference where there are no raters)",
            "FD": f"risk 1 - Dice against the reference, confidence: minus the image score ({self.aggregation}); "
            "images without Dice left out",
            "GED": f"distance 1 - {'IoU' if self.distance == 'iou' else 'Dice'}, mean over foreground classes, "
            "self-pairs included; mean over cases",
            "VOLUME": "CRPS of the samples' volume against each rater's (the reference's where there are no raters), "
            "in ml, mean over raters and cases",
            "RATIO": "mean EU over mean AU, both means over images of image means",
            "delta": "(atan2(correct, wrong) - pi/4) / (pi/4), sign reversed for calibration errors; OODD: EU against "
            "AU, AMB: AU against EU, CAL: TU against the better of AU and EU; interval: see bootstrap in summary.json",
            "ignore label": "left out of every comparison with an annotation; image scores use all voxels",
        }
        if self.challenge_metrics:
            text["CURVAS"] = (
                "agreement: Dice and mean confidence on the voxels on which all raters agree; ece: 50 bins, predicted "
                "class, mean over raters; crps_ml: volume sum(p) against a normal distribution through the raters' "
                "volumes; staple_dice: against STAPLE (SimpleITK); soft_dice: mean over 6 thresholds from 0.1 to 0.8 "
                "of the predictive mean and of the raters' mean"
            )
        return text

    def settings(self) -> dict:
        """The choices as values."""
        return asdict(self)


PRESETS = {
    convention.name: convention
    for convention in (
        Convention("entanglement"),
        Convention(
            "values",
            aggregation="patch",
            per_image_platt=True,
            per_image_ace=True,
            label_codes=True,
            distance="dice",
        ),
        Convention("curvas", challenge_metrics=True),
    )
}


def find_convention(name: str) -> Convention:
    """The preset of a name."""
    if name not in PRESETS:
        raise ValueError(f"There is no convention {name!r}; choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]


CONVENTIONS = {
    "voxels": "all voxels of the original image, background included; ignore label left out",
    "dice": "segmentation file against annotation; NaN (null) where a class is empty in both; means leave NaN out; "
    "all classes: mean over foreground classes",
    "nll": "-ln of the predictive mean at the label, nats, mean over voxels, floor 1e-8 in float64; "
    "class: one against the rest; regions: mean over regions",
    "brier": "all classes: sum over classes of the squared error, mean over voxels (0 to 2); "
    "class: one against the rest (0 to 1); regions: mean over regions",
    "ece": "bins of equal width on [0, 1], right-closed, weighted by counts; all classes: confidence of the predicted "
    "class (arg max; regions: max(p, 1 - p), pooled over regions); class: p against belonging to the class",
    "mce": "largest gap of a non-empty bin of the same diagram",
    "mean": "over cases; against raters first over the raters of a case",
    "dataset": "ece and mce from the bins of all cases (and raters) together",
}
