"""Simulated chest CT of a real nodule: the masks are real, the image is not.

It is the image h(x) in HU that a scanner could have shown where A = 4 radiologists drew masks y_1 .. y_A,

    h = PSF * [(1 - f) lung + f nodule] + noise,       f(x) = Phi(-m(x) / sqrt(s(x)^2 + s_0^2)),

with m and s the mean and the standard deviation over raters of the signed distance to their contours (mm, negative
inside) and s_0 = 0.5 mm. So the edge is as sharp as the raters agree: where their contours coincide it has the
scanner's width, and where they lie apart it fades over about the distance between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.special import ndtr

from nnunet_stochastic.datasets.lidc_nodules import Nodule
from nnunet_stochastic.datasets.simulated_lung import (
    Segment,
    coordinates_mm,
    correlated_noise,
    cover,
    grow_vessel,
    simulate_lung,
    tube_fraction,
)

__all__ = ["SimulatedCase", "ct_noise", "nodule_fraction", "place_masks", "simulate_case"]

EXTENT_MM = (30.0, 36.0, 36.0)  # of the crop along z, y, x
SHARPEST_EDGE_MM = 0.5
MARGIN = 2  # voxels between the masks and the border of the crop


@dataclass(frozen=True)
class SimulatedCase:
    """One image with its raters.

    Attributes
    ----------
    image_hu : ndarray of int16, (z, y, x)
        Simulated CT in [-1024, 3071] HU.
    raters : ndarray of bool, (4, z, y, x)
        The real masks, in the image's grid.
    spacing_mm : tuple of 3 floats
        Voxel size along z, y, x.
    """

    image_hu: np.ndarray
    raters: np.ndarray
    spacing_mm: tuple[float, float, float]

    @property
    def majority(self) -> np.ndarray:
        """Majority vote of the raters, ties to foreground, uint8 (z, y, x)."""
        return (2 * self.raters.sum(0) >= len(self.raters)).astype(np.uint8)


def place_masks(nodule: Nodule, rng: np.random.Generator) -> np.ndarray:
    """The masks at a random place in an empty crop of `EXTENT_MM`, bool (4, z, y, x)."""
    shape = np.floor(np.array(EXTENT_MM) / nodule.spacing_mm + 1e-6).astype(int)
    size = np.array(nodule.masks.shape[1:])
    if (size + 2 * MARGIN > shape).any():
        raise ValueError(
            f"the nodule of patient {nodule.patient} spans {size} voxels and does not fit a crop of {shape} voxels"
            f" with a margin of {MARGIN}; leave it out, or enlarge EXTENT_MM"
        )
    # Within the middle half of the possible places: not always the same one, and with some lung on every side.
    free = shape - size - 2 * MARGIN
    origin = MARGIN + np.floor(free * rng.uniform(0.25, 0.75, 3)).astype(int)
    masks = np.zeros((len(nodule.masks), *shape), dtype=bool)
    place = (slice(None), *map(slice, origin, origin + size))
    masks[place] = nodule.masks
    return masks


def nodule_fraction(masks: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """f(x), the fraction of nodule in each voxel.

    Parameters
    ----------
    masks : ndarray of bool, (A, z, y, x)
        One mask per rater; none may be empty.
    spacing_mm : tuple of 3 floats
        Voxel size along z, y, x.

    Returns
    -------
    ndarray, (z, y, x)
        Fraction, in [0, 1]; ½ on the mean contour.
    """
    empty = [rater for rater, mask in enumerate(masks) if not mask.any()]
    if empty:
        raise ValueError(f"masks of raters {empty} are empty, so they have no contour; give masks with foreground")
    distances = np.stack(
        [
            distance_transform_edt(~mask, sampling=spacing_mm) - distance_transform_edt(mask, sampling=spacing_mm)
            for mask in masks
        ]
    )
    width = np.sqrt(distances.var(0) + SHARPEST_EDGE_MM**2)
    return ndtr(-distances.mean(0) / width).astype(np.float32)


def ct_noise(
    rng: np.random.Generator, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> np.ndarray:
    """Noise of filtered back-projection with unit standard deviation, (z, y, x).

    Its power spectrum rises with the in-plane frequency (the ramp filter) and falls again (the kernel's cut-off), here
    at 0.45 per mm; neighbouring slices are weakly correlated.
    """
    white = rng.standard_normal(shape, dtype=np.float32)
    frequency_y = np.fft.fftfreq(shape[1], spacing_mm[1])[:, None]
    frequency_x = np.fft.rfftfreq(shape[2], spacing_mm[2])[None]
    frequency = np.hypot(frequency_y, frequency_x)
    gain = np.sqrt(frequency) * np.exp(-((frequency / 0.45) ** 2))
    noise = np.fft.irfft2(np.fft.rfft2(white) * gain, s=shape[1:])
    noise = gaussian_filter(noise, (0.6, 0, 0), mode="reflect")
    return (noise / noise.std()).astype(np.float32)


def simulate_case(nodule: Nodule, *, seed: int, index: int) -> SimulatedCase:
    """The CT of one nodule; the same `seed` and `index` give the same image.

    Parameters
    ----------
    nodule : Nodule
        Nodule with its four masks and the radiologists' marks: texture sets the density (1: ground glass, 5: solid),
        calcification a bright core, spiculation the number of strands.
    seed, index : int
        Seed of the data set and number of the case in it, both at least 0.
    """
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index must be at least 0, got seed {seed} and index {index}")
    rng = np.random.default_rng([seed, index])
    spacing_mm = nodule.spacing_mm
    raters = place_masks(nodule, rng)
    image, in_wall = simulate_lung(rng, np.logical_or.reduce(raters), spacing_mm)
    points = coordinates_mm(image.shape, spacing_mm)
    fraction = nodule_fraction(raters, spacing_mm)

    strands = _strands(rng, nodule, raters.mean(0) >= 0.5, points, np.array(EXTENT_MM))
    image = cover(image, tube_fraction(points, spacing_mm, strands) * (1 - in_wall), 30.0)
    image = cover(image, fraction, _nodule_hu(rng, nodule, fraction, spacing_mm))

    blur_mm = np.array([0.4, 0.45, 0.45]) * rng.uniform(0.9, 1.3)
    image = gaussian_filter(image, blur_mm / spacing_mm, mode="nearest")
    image += rng.uniform(14, 32) * ct_noise(rng, image.shape, spacing_mm)
    return SimulatedCase(np.clip(np.rint(image), -1024, 3071).astype(np.int16), raters, spacing_mm)


def _nodule_hu(
    rng: np.random.Generator, nodule: Nodule, fraction: np.ndarray, spacing_mm: tuple[float, float, float]
) -> np.ndarray:
    """What the nodule consists of, (z, y, x), wherever `fraction` says that it is."""
    texture = nodule.characteristics["texture"].mean()
    tissue = np.interp(texture, [1, 3, 5], [-560, -330, 30]) + rng.normal(0, 15)
    tissue = tissue + 22 * correlated_noise(rng, fraction.shape, spacing_mm, 1.5)
    if nodule.characteristics["calcification"].mean() < 5:
        core = distance_transform_edt(fraction > 0.5, sampling=spacing_mm)
        tissue += 350 * np.clip(core / core.max() - 0.4, 0, 1)
    return tissue


def _strands(
    rng: np.random.Generator, nodule: Nodule, mask: np.ndarray, points: np.ndarray, extent_mm: np.ndarray
) -> list[Segment]:
    """Thin strands that leave the surface of a spiculated nodule, and in half of all cases a vessel that ends in it."""
    surface = points[:, mask & (distance_transform_edt(mask) <= 1)].T
    centre = surface.mean(0)

    def root() -> tuple[np.ndarray, np.ndarray]:
        point = surface[rng.integers(len(surface))].astype(float)
        outwards = point - centre
        return point, outwards / max(float(np.linalg.norm(outwards)), 1e-6)

    strands: list[Segment] = []
    for _ in range(round(5 * (float(nodule.characteristics["spiculation"].mean()) - 1))):
        point, outwards = root()
        middle = point + outwards * rng.uniform(1.5, 3.0)
        bend = outwards + rng.normal(0, 0.2, 3)
        strands += [(point, middle, 0.55), (middle, middle + bend * rng.uniform(1.0, 3.0), 0.35)]
    if rng.random() < 0.5:
        point, outwards = root()
        strands += grow_vessel(rng, point, outwards, rng.uniform(0.6, 1.1), extent_mm)
    return strands
