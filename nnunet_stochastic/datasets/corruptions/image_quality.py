"""The four shifts of ENT: blur, noise, contrast and JPEG compression of an image x (C, S, H, W).

    blur        x * N(0, s²) in each plane, s = sigma · min(H, W) pixels, within bounds in mm and pixels
    noise       x + sigma · sd(x) · e, e ~ N(0, 1) at every voxel
    contrast    CLAHE of each plane (Zuiderveld, Graphics Gems IV, 1994), in the plane's own range
    jpeg        each plane in 8 bits over the image's range, compressed, and back

Christensen et al., Rethinking Uncertainty Quantification and Entanglement in Image Segmentation (ENT), 3.1, names the
shifts but not how strong they are; `SHIFTS` has the ranges. All four leave a constant image as it is.
"""

from __future__ import annotations

import math
from io import BytesIO

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage import exposure

from nnunet_stochastic.datasets.corruptions.planes import Planes

__all__ = ["add_noise", "blur", "compress_jpeg", "equalise_contrast"]

#: skimage's clip limit is a fraction of a tile's pixels per bin, OpenCV's a multiple of their mean over the bins.
_NUM_BINS = 256


def blur(planes: Planes, *, sigma: float, longest_mm: float = math.inf, fewest_pixels: float = 0) -> np.ndarray:
    """Gaussian blur in the planes; the image is mirrored at its edges, so the mean of a plane stays.

    Parameters
    ----------
    planes
        Image to blur.
    sigma
        Standard deviation over the shorter side, in pixels.
    longest_mm
        Length in mm that the side counts as at most, where the size of the pixels is known.
    fewest_pixels
        Number of pixels that it counts as at least: with less than half a pixel nothing is blurred.
    """
    side = float(min(planes.values.shape[2:]))
    longest = [math.inf] * 2 if planes.pixel_mm is None else [longest_mm / step for step in planes.pixel_mm]
    pixels = [sigma * max(fewest_pixels, min(side, limit)) for limit in longest]
    return ndimage.gaussian_filter(planes.values, pixels, axes=(2, 3), mode="reflect")


def add_noise(planes: Planes, *, sigma: float, noise_seed: int) -> np.ndarray:
    """White Gaussian noise of ``sigma`` times the standard deviation of the image; each channel gets its own."""
    generator = np.random.default_rng([noise_seed, planes.channel])
    noise = generator.standard_normal(planes.values.shape, dtype=np.float32)
    noise *= sigma * planes.values.std(dtype=np.float64)
    return planes.values + noise


def equalise_contrast(planes: Planes, *, clip_limit: float) -> np.ndarray:
    """Contrast-limited adaptive histogram equalisation of each plane, in tiles of an eighth of its sides.

    Parameters
    ----------
    planes
        Image to equalise; of colours the value (HSV), not the hue.
    clip_limit
        Limit in OpenCV's unit for 8-bit images. Both libraries clip a tile's histogram at max(1, floor(clip_limit ·
        pixels / 256)); they differ in how they round and spread what was cut off.
    """
    result = planes.values.copy()
    for plane in np.moveaxis(result, 1, 0):  # (C, H, W), a view
        brightness = plane.max(0)
        if brightness.min() == brightness.max():
            continue
        # Colours are scaled, not shifted, which would change their hue.
        low = plane.min() if len(plane) == 1 else min(plane.min(), 0)
        width = plane.max() - low
        unit = _channels_last((plane - low) / width)
        equal = exposure.equalize_adapthist(unit, clip_limit=clip_limit / _NUM_BINS, nbins=_NUM_BINS)
        plane[:] = low + width * _channels_first(equal)
    return result


def compress_jpeg(planes: Planes, *, quality: int) -> np.ndarray:
    """JPEG compression of each plane with Pillow, ``quality`` from 1 to 100.

    8-bit images are compressed as they are; the range of others, over all planes, is divided into 256 steps.
    """
    low, high = planes.values.min(), planes.values.max()
    result = planes.values.copy()
    if low == high:
        return result
    if planes.number_type == np.uint8:
        low, high = 0, 255
    for plane in np.moveaxis(result, 1, 0):  # (C, H, W), a view
        pixels = np.rint((plane - low) / (high - low) * 255).astype(np.uint8)
        stream = BytesIO()
        Image.fromarray(_channels_last(pixels)).save(stream, "JPEG", quality=quality)
        with Image.open(stream) as decoded:
            plane[:] = low + _channels_first(np.asarray(decoded, dtype=np.float32)) / 255 * (high - low)
    return result


def _channels_last(plane: np.ndarray) -> np.ndarray:
    """(C, H, W) as the imaging libraries want it: (H, W, 3), or (H, W) of a gray plane."""
    return plane[0] if len(plane) == 1 else np.ascontiguousarray(np.moveaxis(plane, 0, -1))


def _channels_first(plane: np.ndarray) -> np.ndarray:
    return plane[None] if plane.ndim == 2 else np.moveaxis(plane, -1, 0)
