"""What a corrupted image still shows of the image: a test set that lost its structures tells nothing of a model.

    of the image      k = <h(x), h(y)> / <h(x), h(x)>,   r = <h(x), h(y)> / (|h(x)| |h(y)|)
    of a structure    k = |d(y)| / |d(x)|,   d = mean in the structure - mean in the shell around it

h takes from each plane its mean over a fifth of the shorter side, so that blur lowers k, and noise r. A structure's
shell is as wide as its radius (2 to 10 pixels) and begins one pixel away. The contrast is gone where k, or r, is less
than `GONE`, or d(y) less than `GONE` times the standard deviation in the shell, if d(x) was more than twice that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

__all__ = ["GONE", "NO_CHANGE", "is_gone", "is_unchanged", "kept_contrast"]

GONE = 0.25
#: Standard deviation of the change, over that of the image, below which a shift is none.
NO_CHANGE = 0.01
_MAX_PLANES = 32
_SHELL = (2, 10)


def is_unchanged(original: np.ndarray, corrupted: np.ndarray) -> bool:
    """Whether an image (C, z, y, x) is nearly what it was, in all channels; a constant one has nothing to change."""
    channels = [pair for pair in zip(original, corrupted, strict=True) if pair[0].min() < pair[0].max()]
    changes = (float(np.std(after - before) / np.std(before)) for before, after in channels)
    return bool(channels) and all(change < NO_CHANGE for change in changes)


def is_gone(contrasts: Sequence[float]) -> bool:
    """Whether nothing is left in the best of some channels; NaN, of one that had no contrast, does not count."""
    known = [value for value in contrasts if not np.isnan(value)]
    return bool(known) and max(known) < GONE


def kept_contrast(
    original: np.ndarray, corrupted: np.ndarray, labels: np.ndarray | None = None, *, axis: int = 0
) -> float:
    """Share of the contrast of one channel that is left, 0 where it is less than the noise; NaN if there was none.

    Parameters
    ----------
    original, corrupted
        The channel before and after, (z, y, x).
    labels
        Label map, (z, y, x), integer, 0 for the background: the contrast is the least of its structures. Without it
        the contrast is that of the whole image.
    axis
        Axis of (z, y, x) across the planes.
    """
    before, after = np.moveaxis(original, axis, 0), np.moveaxis(corrupted, axis, 0)
    if labels is None:
        return _kept_by_image(before, after)
    labels = np.moveaxis(labels, axis, 0)
    boxes = enumerate(ndimage.find_objects(labels), start=1)
    found = [_kept_by_structure(before, after, labels, value, box) for value, box in boxes if box is not None]
    return min((kept for kept in found if not np.isnan(kept)), default=float("nan"))


def _kept_by_image(before: np.ndarray, after: np.ndarray) -> float:
    width = max(3, round(min(before.shape[1:]) / 5))
    places = np.unique(np.linspace(0, len(before) - 1, min(len(before), _MAX_PLANES)).round().astype(int))
    products = np.zeros(3)
    for place in places:
        x, y = (plane.astype(np.float64) for plane in (before[place], after[place]))
        x, y = (plane - ndimage.uniform_filter(plane, width) for plane in (x, y))
        products += (x * x).sum(), (x * y).sum(), (y * y).sum()
    xx, xy, yy = products
    if xx <= 0:
        return float("nan")
    return float(max(0.0, min(xy / xx, xy / np.sqrt(xx * yy)))) if yy > 0 else 0.0


def _kept_by_structure(
    before: np.ndarray, after: np.ndarray, labels: np.ndarray, value: int, box: tuple[slice, ...]
) -> float:
    radius = np.sqrt((labels[box] == value).sum(axis=(1, 2)).max() / np.pi)
    reach = int(np.clip(round(radius), *_SHELL))
    box = tuple(
        slice(max(side.start - margin, 0), side.stop + margin)
        for side, margin in zip(box, (0, reach + 1, reach + 1), strict=True)
    )
    before, after, labels = before[box], after[box], labels[box]
    structure = labels == value
    disc = np.stack([np.zeros((3, 3)), ndimage.generate_binary_structure(2, 1), np.zeros((3, 3))]).astype(bool)
    near = ndimage.binary_dilation(labels > 0, disc)
    shell = ndimage.binary_dilation(structure, disc, iterations=reach + 1) & ~near
    if not shell.any():
        return float("nan")

    def contrast_and_noise(image: np.ndarray) -> tuple[float, float]:
        surroundings = image[shell].astype(np.float64)
        return abs(image[structure].mean(dtype=np.float64) - surroundings.mean()), surroundings.std()

    (contrast, noise), (left, noise_after) = contrast_and_noise(before), contrast_and_noise(after)
    if contrast <= 2 * GONE * noise:
        return float("nan")  # it could hardly be seen before
    return 0.0 if left < GONE * noise_after else float(left / contrast)
