"""Names that command line, study and Python interface share for how a prediction is made; ``inference`` does it."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = [
    "ESTIMATORS",
    "MAX_MAP_DIGITS",
    "MAX_SAMPLES",
    "MAX_SAVED_SAMPLES",
    "MIN_MAP_DIGITS",
    "MIN_STEP_SIZE",
    "PROBABILITIES_FOLDER",
    "PROBABILITY_FORMATS",
    "TILES_AND_VIEWS",
    "Estimator",
    "ProbabilityFormat",
    "SettledEstimator",
    "TilesAndViews",
]

#: Largest numbers of samples per member and of whole samples, and least distance of tiles as a fraction of the patch:
#: beyond them a prediction does not end, and they are slips of the keyboard.
MAX_SAMPLES, MAX_SAVED_SAMPLES, MIN_STEP_SIZE = 1_000_000, 10_000, 0.01

#: Least number of binary digits of a map: its error, 2^-7, stays below the 1e-2 by which a map that is read may exceed
#: the largest entropy of its classes. With 2 digits ln 2 would be 0.75. The most are those of float32.
MIN_MAP_DIGITS, MAX_MAP_DIGITS = 6, 23

#: How the moments of a member's samples are taken. ``auto``: exact where it exists, else mc. ``exact``: by quadrature.
#: ``mc``: stratified or antithetic samples that all members share. ``plug_in``: independent samples of each member.
Estimator = Literal["auto", "exact", "mc", "plug_in"]
ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)

#: What ``auto`` is settled to.
SettledEstimator = Literal["exact", "mc", "plug_in"]

#: How tiles and mirrored views become one prediction. ``blend``: as nnU-Net blends logits, where the model allows it.
#: ``average``: as the mean of their probabilities.
TilesAndViews = Literal["blend", "average"]
TILES_AND_VIEWS: tuple[TilesAndViews, ...] = get_args(TilesAndViews)

#: How the predictive mean is written: nnU-Net's file of all classes, or an image per class.
ProbabilityFormat = Literal["npz", "nifti"]
PROBABILITY_FORMATS: tuple[ProbabilityFormat, ...] = get_args(ProbabilityFormat)
#: Where these images are, one per class or region, beside the folders of the maps.
PROBABILITIES_FOLDER = "probabilities"
