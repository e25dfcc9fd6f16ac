"""What a shift is applied to: the planes of one image.

`Planes` are x in R^(C, S, H, W): S planes of H x W pixels, of one gray channel (C = 1) or of red, green and blue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Planes"]


@dataclass(frozen=True)
class Planes:
    """One image, its planes along the second axis.

    Attributes
    ----------
    values : ndarray of float32, (C, S, H, W)
        C is 3 for colours, else 1.
    number_type : numpy.dtype
        Type of the numbers in the file that it comes from.
    channel : int
        Number of the first channel in its case, from 0.
    pixel_mm : tuple of 2 floats, or None
        Distance of the pixels along H and W in mm; None where it is not known.
    """

    values: np.ndarray
    number_type: np.dtype
    channel: int = 0
    pixel_mm: tuple[float, float] | None = None
