"""Corrupted copies of images, as out-of-distribution test sets."""

from nnunet_stochastic.datasets.corruptions.shifts import (
    DEFAULT_SHIFTS,
    SHIFTS,
    Shift,
    check_range,
    corrupt_image,
    draw_parameters,
)
from nnunet_stochastic.datasets.corruptions.stored_image import StoredImage, read_stored_image

__all__ = [
    "DEFAULT_SHIFTS",
    "SHIFTS",
    "Shift",
    "StoredImage",
    "check_range",
    "corrupt_image",
    "draw_parameters",
    "read_stored_image",
]
