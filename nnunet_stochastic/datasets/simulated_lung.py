"""Simulated lung around a nodule, in Hounsfield units. No real image enters it.

An image h(x) in HU is built by covering it with one tissue after another,

    h <- (1 - f) h + f * tissue,   f(x) in [0, 1] the fraction of the voxel that the tissue fills,

in the order parenchyma, fissure, vessels and airway, chest wall. Vessels are trees of tubes whose radii follow
Murray's law, r^3 = r_1^3 + r_2^3 at a bifurcation (Murray, PNAS 12:207-214, 1926).
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

__all__ = ["coordinates_mm", "correlated_noise", "cover", "grow_vessel", "simulate_lung", "tube_fraction"]

VESSEL_HU = 40.0
AIR_HU = -990.0
FISSURE_HU = -500.0
MUSCLE_HU, FAT_HU, CORTICAL_HU, MARROW_HU = 50.0, -95.0, 700.0, 180.0

Segment = tuple[np.ndarray, np.ndarray, float]  # start (3,), end (3,) and radius, in mm


def coordinates_mm(shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Voxel centres along z, y, x in mm, (3, *shape), the first voxel at 0."""
    grid = np.indices(shape, dtype=np.float32)
    return grid * np.array(spacing_mm, dtype=np.float32).reshape(3, 1, 1, 1)


def cover(image_hu: np.ndarray, fraction: np.ndarray, tissue_hu: np.ndarray | float) -> np.ndarray:
    """`image_hu` with `fraction` of each voxel replaced by `tissue_hu`."""
    return image_hu * (1 - fraction) + fraction * tissue_hu


def correlated_noise(
    rng: np.random.Generator, shape: tuple[int, ...], spacing_mm: tuple[float, ...], length_mm: float
) -> np.ndarray:
    """Smooth Gaussian noise of unit standard deviation, (*shape), with correlation length `length_mm`."""
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), length_mm / np.array(spacing_mm), mode="wrap")
    return noise / noise.std()


def tube_fraction(points_mm: np.ndarray, spacing_mm: tuple[float, ...], segments: list[Segment]) -> np.ndarray:
    """Fraction of each voxel filled by the union of round tubes, (*S) in [0, 1].

    Parameters
    ----------
    points_mm : ndarray, (3, *S)
        Voxel centres, as `coordinates_mm` gives them.
    spacing_mm : tuple of 3 floats
        Voxel size along z, y, x.
    segments : list of (start, end, radius)
        Tubes in mm; a segment may reach out of the image.
    """
    fraction = np.zeros(points_mm.shape[1:], dtype=np.float32)
    width = float(np.mean(spacing_mm))
    for start, end, radius in segments:
        margin = radius + 2 * width
        low = np.floor((np.minimum(start, end) - margin) / spacing_mm).astype(int)
        high = np.ceil((np.maximum(start, end) + margin) / spacing_mm).astype(int) + 1
        if (high <= 0).any() or (low >= fraction.shape).any():
            continue
        box = tuple(map(slice, np.maximum(low, 0), high))
        in_box = (slice(None), *box)
        offset = points_mm[in_box] - start.reshape(3, 1, 1, 1).astype(np.float32)
        axis = (end - start).astype(np.float32)
        along = np.clip(np.einsum("i,i...", axis, offset) / max(float(axis @ axis), 1e-6), 0, 1)
        distance = np.sqrt(((offset - axis.reshape(3, 1, 1, 1) * along) ** 2).sum(0))
        # A tube thinner than a voxel fills only its cross-section's share of it.
        thin = min(1.0, (2 * radius / width) ** 2)
        np.maximum(fraction[box], thin * np.clip((radius - distance) / width + 0.5, 0, 1), out=fraction[box])
    return fraction


def grow_vessel(
    rng: np.random.Generator, start: np.ndarray, direction: np.ndarray, radius: float, extent_mm: np.ndarray
) -> list[Segment]:
    """A tree of tubes from `start` along `direction` (mm), until it is too thin to see or has left the image."""
    segments: list[Segment] = []
    tips = [(start, direction / np.linalg.norm(direction), radius)]
    while tips:
        point, heading, radius = tips.pop()
        if radius < 0.4 or (point < -4).any() or (point > extent_mm + 4).any():
            continue
        # Three short bends make one branch: vessels are not straight.
        for _ in range(3):
            heading = heading + rng.normal(0, 0.16, 3)
            heading /= np.linalg.norm(heading)
            end = point + heading * radius * rng.uniform(1.5, 3.0)
            segments.append((point, end, radius))
            point = end
        sideways = rng.standard_normal(3)
        sideways -= (sideways @ heading) * heading
        sideways /= np.linalg.norm(sideways)
        share = rng.uniform(0.5, 0.9)  # of r^3; the larger branch bends less
        for part, angle in ((share, 0.9 * (1 - share)), (1 - share, -rng.uniform(0.6, 1.1))):
            tips.append((point, np.cos(angle) * heading + np.sin(angle) * sideways, radius * part ** (1 / 3)))
    return segments


def simulate_lung(
    rng: np.random.Generator, nodule: np.ndarray, spacing_mm: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Lung without the nodule and without CT noise.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of everything random.
    nodule : ndarray of bool, (z, y, x)
        Voxels that the chest wall must leave free.
    spacing_mm : tuple of 3 floats
        Voxel size along z, y, x.

    Returns
    -------
    image_hu : ndarray, (z, y, x)
    in_wall : ndarray, (z, y, x)
        Fraction of each voxel outside the lung, in [0, 1].
    """
    shape = nodule.shape
    points = coordinates_mm(shape, spacing_mm)
    extent = np.array(shape) * spacing_mm

    image = np.full(shape, rng.uniform(-890, -840), dtype=np.float32)
    image += rng.uniform(0.0, 1.0) * points[1]  # the dependent, posterior lung is denser
    image += 18 * correlated_noise(rng, shape, spacing_mm, 5.0) + 16 * correlated_noise(rng, shape, spacing_mm, 1.2)

    if rng.random() < 0.3:
        image = cover(image, _fissure_fraction(rng, points, extent), FISSURE_HU)

    vessels: list[Segment] = []
    for _ in range(rng.integers(3, 7)):
        start, direction = _enter_image(rng, extent)
        vessels += grow_vessel(rng, start, direction, rng.uniform(0.8, 2.0), extent)
    image = cover(image, tube_fraction(points, spacing_mm, vessels), VESSEL_HU)

    if rng.random() < 0.4:  # a bronchus: a tube of wall, filled with air
        start, direction = _enter_image(rng, extent)
        radius = rng.uniform(1.6, 2.6)
        airway = [(start, start + 1.5 * extent.max() * direction / np.linalg.norm(direction), radius)]
        image = cover(image, tube_fraction(points, spacing_mm, airway), VESSEL_HU)
        airway = [(a, b, 0.65 * radius) for a, b, _ in airway]
        image = cover(image, tube_fraction(points, spacing_mm, airway), AIR_HU)

    in_wall = np.zeros(shape, dtype=np.float32)
    if rng.random() < 0.45:
        depth, along_ribs = _chest_wall_depth(rng, points, nodule)
        in_wall = np.clip(depth / float(np.mean(spacing_mm)) + 0.5, 0, 1)
        image = cover(image, in_wall, _chest_wall_hu(rng, depth, along_ribs, spacing_mm))
    return image, in_wall


def _enter_image(rng: np.random.Generator, extent_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A point on a random face of the image and a direction inwards."""
    axis = rng.integers(3)
    start = rng.uniform(0, extent_mm)
    start[axis] = rng.choice([0.0, extent_mm[axis]])
    return start, rng.uniform(0.1, 0.9, 3) * extent_mm - start


def _fissure_fraction(rng: np.random.Generator, points: np.ndarray, extent_mm: np.ndarray) -> np.ndarray:
    """A thin, slightly curved sheet through the image, (*S) in [0, 1]."""
    normal = rng.standard_normal(3)
    normal /= np.linalg.norm(normal)
    centre = points - (extent_mm * rng.uniform(0.15, 0.85, 3)).reshape(3, 1, 1, 1)
    height = np.einsum("i,i...", normal, centre)
    height += 0.006 * ((centre**2).sum(0) - height**2)
    return 0.6 * np.exp(-0.5 * (height / 0.35) ** 2)


def _chest_wall_depth(
    rng: np.random.Generator, points: np.ndarray, nodule: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Depth below the pleura (mm, negative in the lung), and the coordinate across the ribs (mm), both (*S).

    The pleura is part of a sphere that leaves the nodule inside.
    """
    angle = rng.uniform(0, 2 * np.pi)
    normal = np.array([rng.normal(0, 0.15), np.sin(angle), np.cos(angle)])
    normal /= np.linalg.norm(normal)
    occupied = points[:, nodule]
    centre = occupied.mean(1)
    gap = rng.uniform(1.5, 14.0)
    radius = rng.uniform(60, 110)
    reach = float((normal @ (occupied - centre[:, None])).max())
    sphere_centre = centre + normal * (reach + gap - radius)
    depth = np.sqrt(((points - sphere_centre.reshape(3, 1, 1, 1)) ** 2).sum(0)) - radius
    # The sphere curves back beside the nodule; move it off where that would touch.
    depth -= max(0.0, float(depth[nodule].max()) + 1.0)
    tangent = np.cross(normal, [1.0, 0.0, 0.0])
    return depth, points[0] + rng.normal(0, 0.35) * np.einsum("i,i...", tangent, points)


def _chest_wall_hu(
    rng: np.random.Generator, depth: np.ndarray, along_ribs: np.ndarray, spacing_mm: tuple[float, ...]
) -> np.ndarray:
    """Muscle, fat and ribs, (*S), of which `depth` says where they lie."""
    fat = np.clip((depth - 5) / 10 + 0.5 * correlated_noise(rng, depth.shape, spacing_mm, 3.0), 0, 1)
    tissue = MUSCLE_HU + 8 * correlated_noise(rng, depth.shape, spacing_mm, 1.5)
    tissue = cover(tissue, fat, FAT_HU)
    period = rng.uniform(24, 30)
    across = (along_ribs + rng.uniform(0, period)) % period - period / 2
    rib = np.sqrt(((depth - 7) / 4.5) ** 2 + (across / 6.5) ** 2)
    tissue = cover(tissue, np.clip((1 - rib) * 8 + 0.5, 0, 1), CORTICAL_HU)
    return cover(tissue, np.clip((0.72 - rib) * 8 + 0.5, 0, 1), MARROW_HU)
