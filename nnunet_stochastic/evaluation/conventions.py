"""Conventions: the choices in which published evaluations of uncertainty differ, under a name.

    entanglement       Christensen et al., Rethinking Uncertainty Quantification and Entanglement in Image Segmentation,
                       3.4
    values             Kahl et al., ValUES, ICLR 2024, https://arxiv.org/abs/2401.08501
    curvas             entanglement, and the metrics of the CURVAS challenge on calibration and volume with several
                       raters, https://curvas.grand-challenge.org
    curvas_pdacvi      curvas with the region of CURVAS-PDACVI 2025, https://curvas-pdacvi.grand-challenge.org
    mixture_of_bases   entanglement with the calibration errors of Structured Covariance Modeling Using Learned
                       Mixture-of-Bases for Uncertainty in 3D Segmentation, Table 4

They follow the authors' code where the text is silent. What all of them share is in ``CONVENTIONS``. The text of both
goes into every summary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nnunet_stochastic.metrics import GedDistance

__all__ = ["AGGREGATIONS", "CONVENTIONS", "DISTANCES", "PRESETS", "Aggregation", "Convention", "find_convention"]

Aggregation = Literal["mean", "patch", "threshold", "area", "border"]

# How a map becomes the score of an image.
AGGREGATIONS: dict[Aggregation, str] = {
    "mean": "mean over all voxels",
    "patch": "largest mean of a patch of 10 voxels per axis, or the whole axis where that is shorter",
    "threshold": "mean of the voxels at or above the threshold of calibration.json, 0 if there is none",
    "area": "sum divided by the number of predicted foreground voxels, by 1 if there is none",
    "border": "sum divided by the number of neighbouring voxels with different predicted labels, by 1 if there is none",
}

# Of two segmentations, for GED, as it stands in tables.
DISTANCES: dict[GedDistance, str] = {"iou": "1 - IoU", "dice": "1 - Dice", "pooled_dice": "1 - pooled Dice"}


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
        By which GED is ranked, and given as the GED; it is computed by all of ``DISTANCES``.
    challenge_metrics
        Compute the metrics of the CURVAS challenges.
    challenge_margin
        Their calibration error is that of the raters' bounding box and so many voxels around it; None: of the image.
    num_bins
        Bins of ECE and MCE.
    foreground_calibration
        ECE and MCE are those of the foreground probability as torchmetrics' BinaryCalibrationError has them, ECE with
        the l2 norm, and not of the confidence of the predicted class.
    dice_in_percent
        Tables give Dice in percent.
    """

    name: str
    aggregation: Aggregation = "border"
    per_image_platt: bool = False
    per_image_ace: bool = False
    label_codes: bool = False
    distance: GedDistance = "dice"
    challenge_metrics: bool = False
    challenge_margin: int | None = None
    num_bins: int = 15
    foreground_calibration: bool = False
    dice_in_percent: bool = False

    @property
    def ece_norm(self) -> Literal["l1", "l2"]:
        """Of ``metrics.expected_calibration_error``."""
        return "l2" if self.foreground_calibration else "l1"

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
            + " (both are there: per_image and dataset); correct: the prediction equals the rater, all raters (the "
            "reference where there are no raters)",
            "FD": f"risk 1 - Dice against the reference, confidence: minus the image score ({self.aggregation}); "
            "images without Dice left out",
            "GED": f"ranked: {DISTANCES[self.distance]}; iou, dice: distance of a pair, mean over foreground classes "
            "and pairs; pooled_dice: one Dice of all pairs and foreground classes, 0 where all are empty; "
            "self-pairs included; mean over cases",
            "VOLUME": "CRPS of the samples' volume against each rater's (the reference's where there are no raters), "
            "in ml, mean over raters and cases",
            "RATIO": "mean EU over mean AU, both means over images of image means",
            "delta": "(atan2(correct, wrong) - pi/4) / (pi/4), sign reversed for calibration errors; OODD: EU against "
            "AU, AMB: AU against EU, CAL: TU against the better of AU and EU; over shifts of mean performances, "
            "the better of AU and EU being that of each shift; interval: see bootstrap in summary.json",
            "ignore label": "left out of every comparison with an annotation; image scores use all voxels",
            **self._calibration_of_probabilities(),
        }
        if self.challenge_metrics:
            text["CURVAS"] = (
                "agreement: Dice and mean confidence on the voxels on which all raters agree; ece: 50 bins, predicted "
                f"class, mean over raters, {self._challenge_region()}; crps_ml: volume sum(p) against a normal "
                "distribution through the raters' volumes; staple_dice: against STAPLE (SimpleITK); soft_dice: mean "
                "over 6 thresholds from 0.1 to 0.8 of the predictive mean and of the raters' mean"
            )
        return text

    def _calibration_of_probabilities(self) -> dict[str, str]:
        if self.foreground_calibration:
            return {
                "ece": f"root of the mean squared gap by counts (l2 norm) of {self.num_bins} bins of equal width on "
                "[0, 1], left-closed, 1 a bin of its own (torchmetrics' BinaryCalibrationError); all classes: sum of "
                "the probabilities of the foreground classes against being foreground (regions: p of each region "
                "against being in it, pooled over regions); class: p against belonging to the class",
                "mce": "largest gap of a non-empty bin of the same diagram (max norm)",
            }
        return {
            "ece": f"{self.num_bins} bins of equal width on [0, 1], right-closed, weighted by counts; all classes: "
            "confidence of the predicted class (arg max; regions: max(p, 1 - p), pooled over regions); class: p "
            "against belonging to the class",
            "mce": "largest gap of a non-empty bin of the same diagram",
        }

    def _challenge_region(self) -> str:
        if self.challenge_margin is None:
            return "all voxels"
        return (
            f"inside the bounding box of all raters' foreground and {self.challenge_margin} voxels around it "
            f"({self.challenge_margin - 1} behind its last one, as the challenge's code has it), cut at the image; "
            "none where no rater has any. The challenge's vascular involvement is not computed"
        )


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
            distance="pooled_dice",
        ),
        Convention("curvas", challenge_metrics=True),
        Convention("curvas_pdacvi", challenge_metrics=True, challenge_margin=20),
        Convention("mixture_of_bases", num_bins=50, foreground_calibration=True, dice_in_percent=True),
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
    "degenerate_samples": "cases of 3 or more samples of which each is empty (at most 1 % of the segmentation's "
    "foreground) or fills the image (at most 1 % of its background is left), and the segmentation is not or does not",
    "mean": "over cases; against raters first over the raters of a case",
    "dataset": "ece and mce from the bins of all cases (and raters) together",
}
