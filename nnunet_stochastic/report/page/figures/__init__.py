"""The figures of the page: results in, a matplotlib figure out, or ``None`` where nothing of it was evaluated.

A new figure is a file beside this one and an entry here: title, what to see in it, and the function that draws it.
"""

from collections.abc import Callable, Mapping, Sequence

from matplotlib.figure import Figure

from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun
from nnunet_stochastic.report.page.figures.aggregation import aggregation_figure
from nnunet_stochastic.report.page.figures.coverage import coverage_figure
from nnunet_stochastic.report.page.figures.detection import detection_figure
from nnunet_stochastic.report.page.figures.entanglement import entanglement_figure
from nnunet_stochastic.report.page.figures.filtering import filtering_figure
from nnunet_stochastic.report.page.figures.lesion_detection import lesion_detection_figure
from nnunet_stochastic.report.page.figures.overlap import overlap_figure
from nnunet_stochastic.report.page.figures.predicted_dice import predicted_dice_figure
from nnunet_stochastic.report.page.figures.ratio import ratio_figure
from nnunet_stochastic.report.page.figures.reliability import confidence_figure, reliability_figure
from nnunet_stochastic.report.page.figures.risk_coverage import risk_coverage_figure
from nnunet_stochastic.report.page.figures.style import ModelStyle, figure_style, model_styles

__all__ = [
    "COMPARISONS",
    "OF_ONE_MODEL",
    "ModelStyle",
    "aggregation_figure",
    "confidence_figure",
    "coverage_figure",
    "detection_figure",
    "entanglement_figure",
    "figure_style",
    "filtering_figure",
    "lesion_detection_figure",
    "model_styles",
    "overlap_figure",
    "predicted_dice_figure",
    "ratio_figure",
    "reliability_figure",
    "risk_coverage_figure",
]

#: Of the models of a dataset, in the order of the page.
COMPARISONS: tuple[
    tuple[str, str, Callable[[Sequence[EvaluatedRun], Mapping[str, ModelStyle]], Figure | None]], ...
] = (
    (
        "Reliability",
        "How often the prediction is right where it states some confidence, 15 bins, against every rater (or the "
        "reference). On the dashed line confidence is true, below it the model is overconfident. "
        "Bottom: voxels per bin.",
        reliability_figure,
    ),
    (
        "Entanglement (Δ)",
        "Each point is a model: up the measure that theory names for the task, to the right the other one. In the "
        "shaded half the right measure does the task better (Δ > 0); far from the dashed line is little entangled.",
        entanglement_figure,
    ),
    (
        "Size of epistemic uncertainty",
        "Means over the voxels of an image, then over images. Where EU/AU is close to 0 the epistemic part has "
        "collapsed and total uncertainty says nothing that aleatoric does not.",
        ratio_figure,
    ),
    (
        "Aggregation of a map to the score of an image",
        "AUROC of out-of-distribution detection, mean over the shifts. Points above the dashed line detect better with "
        "epistemic than with aleatoric uncertainty; the cross is the mean over models.",
        aggregation_figure,
    ),
    (
        "Segmentation and diversity",
        "Dice of the segmentation and generalised energy distance between samples and raters, ID set. Bottom right is "
        "better.",
        overlap_figure,
    ),
    (
        "Filtering (QU-BraTS)",
        "Voxels of more than a threshold of AU, EU or TU (share of the largest entropy) are set aside, ID set: Dice of "
        "what is kept, and shares of true positives and true negatives that are set aside with the errors. At 1 all "
        "voxels are kept.",
        filtering_figure,
    ),
)
#: Of one model.
OF_ONE_MODEL: tuple[tuple[str, str, Callable[[EvaluatedRun], Figure | None]], ...] = (
    (
        "Out-of-distribution detection",
        "Image scores of the ID set (grey) and of each shift, and how well a threshold on the score tells them apart.",
        detection_figure,
    ),
    (
        "Failure detection",
        "Mean risk of the images that are kept when the most uncertain are set aside for review, from all (right) to "
        "few (left). Between the oracle and random, lower is better.",
        risk_coverage_figure,
    ),
    (
        "Confidence made of uncertainty",
        "Confidence by Platt scaling of each measure, 20 bins, against how often the voxel was predicted correctly.",
        confidence_figure,
    ),
    (
        "Coverage of intervals",
        "How often the volume of the reference is in the interval, and the Dice at least its lower bound, against how "
        "often they say so; a point per structure, with the 95 % binomial interval (Clopper-Pearson). Points on the "
        "dashed line hold as often as they say, those above it are wider than they need be.",
        coverage_figure,
    ),
    (
        "Predicted against true Dice",
        "Each case and structure. On the dashed line the prediction is right; of new patients one in ten is expected "
        "below its lower bound, which is that at 90 %.",
        predicted_dice_figure,
    ),
    (
        "Detection of lesions (FROC)",
        "Share of the lesions of all annotators that are found, against found lesions that are none, as lesions that "
        "fewer samples have are counted, too; the cross: those of the segmentation alone. Up and left is better.",
        lesion_detection_figure,
    ),
)
