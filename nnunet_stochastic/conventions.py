"""Conventions: the choices in which published evaluations of uncertainty differ, under a name.

    entanglement       Christensen et al., Rethinking Uncertainty Quantification and Entanglement in Image Segmentation,
                       3.4
    values             Kahl et al., ValUES, ICLR 2024, https://arxiv.org/abs/2401.08501
    curvas             entanglement, and the metrics of the CURVAS challenge on calibration and volume with several
                       raters, https://curvas.grand-challenge.org
    curvas_pdacvi      curvas with the region of CURVAS-PDACVI 2025, https://curvas-pdacvi.grand-challenge.org
    mixture_of_bases   entanglement with the calibration errors of Structured Covariance Modeling Using Learned
                       Mixture-of-Bases for Uncertainty in 3D Segmentation, Table 4

They follow the authors' code where the text is silent. What all of them share is in ``CONVENTIONS``; a task describes
what they choose in it. The text of all goes into every summary. ``evaluation`` does as they say; commands and study
files choose one by its name, for which they import this module alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from nnunet_stochastic.io.names import shown

if TYPE_CHECKING:
    from nnunet_stochastic.metrics import GedDistance

__all__ = [
    "ACE",
    "AGGREGATIONS",
    "CONVENTIONS",
    "DEFAULT_CONVENTION",
    "DISTANCES",
    "NORMALISED",
    "PRESETS",
    "Ace",
    "Aggregation",
    "Convention",
    "find_convention",
]

# Calibration errors: mean over the images, or of all images together.
Ace = Literal["per_image", "dataset"]
ACE: tuple[Ace, ...] = get_args(Ace)

Aggregation = Literal["mean", "patch", "threshold", "area", "border"]

# How a map becomes the score of an image.
AGGREGATIONS: dict[Aggregation, str] = {
    "mean": "mean over all voxels",
    "patch": "largest mean of a patch of 10 voxels per axis, or the whole axis where that is shorter",
    "threshold": "mean of the voxels at or above the threshold of calibration.json, 0 if there is none",
    "area": "sum divided by the number of predicted foreground voxels, by 1 if there is none",
    "border": "sum divided by the number of neighbouring voxels with different predicted labels, by 1 if there is none",
}

# Those that are a plain sum where nothing, or no border, is predicted: beside others it is as large as the image.
NORMALISED: tuple[Aggregation, ...] = ("area", "border")

# Of two segmentations, for GED, as it stands in tables.
DISTANCES: dict[GedDistance, str] = {"iou": "1 - IoU", "dice": "1 - Dice", "pooled_dice": "1 - pooled Dice"}


@dataclass(frozen=True)
class Convention:
    """What a preset decides.

    Attributes
    ----------
    name
        Name of the preset.
    aggregation
        Score of an image for OOD and failure detection.
    per_image_platt
        Whether Platt parameters are the mean of those of the validation images, not fitted to all of their voxels
        together.
    per_image_ace
        Whether calibration errors are the mean of those of the images, not of the bins of all images together.
    label_codes
        Whether ambiguity is the variance of the label numbers, not of the one-hot labels summed over labels.
    distance
        Distance by which the GED is ranked, and given as the GED; it is computed by all of ``DISTANCES``.
    challenge_metrics
        Whether the metrics of the CURVAS challenges are computed.
    challenge_margin
        Number of voxels around the raters' bounding box in which their calibration error is taken; None: whole image.
    num_bins
        Number of bins of ECE and MCE.
    foreground_calibration
        Whether ECE and MCE are those of the foreground probability as torchmetrics' BinaryCalibrationError has them,
        ECE with the l2 norm, and not of the confidence of the predicted class.
    dice_in_percent
        Whether tables give Dice in percent.
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
        """The ``norm`` of ``metrics.expected_calibration_error``."""
        return "l2" if self.foreground_calibration else "l1"

    def describe_calibration(self) -> dict[str, str]:
        """How ECE and MCE are computed, in words."""
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


PRESETS: dict[str, Convention] = {
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
#: Name of the preset that is followed where none is named.
DEFAULT_CONVENTION = "entanglement"


def find_convention(name: str) -> Convention:
    """The preset of a name."""
    if name not in PRESETS:
        raise ValueError(f"there is no convention {shown(name)}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


CONVENTIONS = {
    "voxels": "all voxels of the original image, background included; ignore label left out",
    "dice": "segmentation file against annotation; NaN (null) where a class is empty in both; means leave NaN out; "
    "all classes: mean over foreground classes",
    "hd95_mm": "larger of the two 95 % quantiles of the distances of the surfaces' voxels, mm; a surface voxel has "
    "a face neighbour outside of the structure or the image; empty in both: null; in one: the diagonal of the image; "
    "null for images without spacing; all classes: mean over foreground classes",
    "assd_mm": "mean of the distances of all voxels of both surfaces, mm; else as hd95_mm",
    "nsd": "share of the voxels of both surfaces within the tolerance of the other; empty in one: 0; else as hd95_mm",
    "lesion_dice": "mean over lesions (connected components, 26 neighbours, of any size) of the Dice of matched pairs, "
    "one to one by the greatest sum of IoU; 0 for a lesion of one segmentation alone; null without lesions",
    "nll": "-ln of the predictive mean at the label, nats, mean over voxels, floor 1e-8 in float64; "
    "class: one against the rest; regions: mean over regions",
    "brier": "all classes: sum over classes of the squared error, mean over voxels (0 to 2); "
    "class: one against the rest (0 to 1); regions: mean over regions",
    "degenerate_samples": "cases of 3 or more samples of which each is empty (at most 1 % of the segmentation's "
    "foreground) or fills the image (at most 1 % of its background is left), and the segmentation is not or does not",
    "spread": "means over cases and classes; rater_dice: mean Dice of the pairs of raters; rater_ged: GED of one rater "
    "from all, mean over raters; volume_spread: sd over mean of the volumes; volume_coverage: share of the raters' (or "
    "the reference's) volumes from the 5 to the 95 % quantile of the samples', nominal 0.9",
    "mean": "over cases; against raters first over the raters of a case",
    "dataset": "ece and mce from the bins of all cases (and raters) together",
}
