"""Intensities as grey levels, between two percentiles of an image."""

from __future__ import annotations

import numpy as np

__all__ = ["grey_levels"]


def grey_levels(image: np.ndarray, percentiles: tuple[float, float]) -> np.ndarray:
    """Grey levels of an image of any shape, uint8: black up to the lower percentile, white from the upper one on.

    What is not finite is black.
    """
    known = np.isfinite(image)
    low, high = np.percentile(image[known], percentiles) if known.any() else (0.0, 1.0)
    scaled = (np.where(known, image, low) - low) / (high - low if high > low else 1.0)
    return (255 * np.clip(scaled, 0, 1)).astype(np.uint8)
