"""The raters as a row of reference in tables of models, and the columns of volumes that stand beside it.

What a model's Dice and GED can reach depends on how far the raters agree, and how much its volumes should differ from
sample to sample on how much theirs do.
"""

from __future__ import annotations

from nnunet_stochastic.evaluation.spread import COVERAGE_LEVEL
from nnunet_stochastic.evaluation.tasks import ENERGY_DISTANCE

__all__ = ["EXPLANATION", "OF_RATERS", "RATERS_ROW", "SPREAD"]

RATERS_ROW = "raters (for reference)"
VOLUME_SPREAD = "volume sd/mean"
#: Columns of volumes, with the number of ``case_spread`` that a model has there.
SPREAD = {VOLUME_SPREAD: "sample_volume_spread", f"volume coverage ({COVERAGE_LEVEL})": "volume_coverage"}
#: Columns in which the raters have a number, with that of ``case_spread``.
OF_RATERS = {
    "Dice": "rater_dice",
    VOLUME_SPREAD: "rater_volume_spread",
    **{ENERGY_DISTANCE.variant_name(variant): f"rater_ged_{variant}" for variant in ENERGY_DISTANCE.variants},
}
EXPLANATION = (
    "Raters: mean Dice of their pairs, GED of one from all. Volume: sd over mean of the volumes of the samples, and of "
    f"the raters; share of the raters' volumes in the samples' {COVERAGE_LEVEL:.0%} interval, good where it is near "
    f"{COVERAGE_LEVEL}."
)
