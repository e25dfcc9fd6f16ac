"""Shifts of how CT and MR images are acquired: low resolution, ghosting and a bias field, of an image x (C, S, H, W).

    low_resolution    slices thicker by a factor; in an image of one plane, larger pixels. The grid stays
    ghosting          every n-th line of k-space along H or W is multiplied with 1 - intensity, all but the centre
    bias_field        min(x) + (x - min(x)) · exp(magnitude · Σ c_ijk s^i h^j w^k), i + j + k <= 3, s, h, w in [-1, 1]

Ghosting and bias field are TorchIO's (Pérez-García et al., Computer Methods and Programs in Biomedicine 208, 2021).
"""

from __future__ import annotations

import numpy as np
from skimage import transform

from nnunet_stochastic.datasets.corruptions.planes import Planes

__all__ = ["BIAS_FIELD_ORDER", "NUM_BIAS_COEFFICIENTS", "add_bias_field", "add_ghosts", "lower_resolution"]

BIAS_FIELD_ORDER = 3
#: Monomials of three coordinates up to that order.
NUM_BIAS_COEFFICIENTS = 20

# TorchIO is imported where it is called: that takes seconds, and most shifts do without.


def lower_resolution(planes: Planes, *, factor: float) -> np.ndarray:
    """Resample to a grid that is coarser by ``factor`` and back, linearly, with a Gaussian filter against aliasing.

    Across the planes, as slices of that thickness would, or in the plane where there is one plane only.
    """
    shape = planes.values.shape[1:]
    coarse = [max(1, round(length / factor)) for length in shape]
    target = (coarse[0], *shape[1:]) if shape[0] > 1 else (1, *coarse[1:])
    result = np.empty_like(planes.values)
    for source, channel in zip(planes.values, result, strict=True):
        low = transform.resize(source, target, order=1, mode="symmetric", anti_aliasing=True, preserve_range=True)
        channel[:] = transform.resize(low, shape, order=1, mode="symmetric", anti_aliasing=False, preserve_range=True)
    return result


def add_ghosts(planes: Planes, *, intensity: float, num_ghosts: int, axis: int) -> np.ndarray:
    """Ghosts of motion along an axis of the planes.

    Parameters
    ----------
    planes
        Image whose planes get ghosts.
    intensity
        Strength: 0 leaves the image as it is, 1 removes the lines.
    num_ghosts
        Number of copies over the length of the axis: the distance of the lines.
    axis
        Axis of (S, H, W): 1 or 2.
    """
    import torch
    import torchio

    ghosting = torchio.Ghosting(num_ghosts=num_ghosts, axis=axis, intensity=intensity, restore=None)
    return ghosting(torch.from_numpy(planes.values)).numpy()


def add_bias_field(planes: Planes, *, magnitude: float, coefficients: list[float]) -> np.ndarray:
    """Multiply what is above the image's minimum with a smooth positive field, the same in all channels.

    Parameters
    ----------
    planes
        Image to multiply. Its minimum stays, since a field on negative Hounsfield units would be none on tissue.
    magnitude
        Largest possible coefficient of the polynomial.
    coefficients
        `NUM_BIAS_COEFFICIENTS` numbers in [-1, 1], in TorchIO's order.
    """
    import torch
    import torchio

    low = planes.values.min()
    field = torchio.BiasField([magnitude * c for c in coefficients], order=BIAS_FIELD_ORDER)
    return low + field(torch.from_numpy(planes.values - low)).numpy()
