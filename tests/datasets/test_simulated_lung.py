"""The simulated lung: volumes of tubes, Murray's law, noise, and a chest wall that leaves the nodule free."""

import numpy as np
import pytest

from nnunet_stochastic.datasets.simulated_lung import (
    coordinates_mm,
    correlated_noise,
    cover,
    grow_vessel,
    simulate_lung,
    tube_fraction,
)

SPACING_MM = (1.25, 0.7, 0.7)


def test_coordinates_are_in_mm():
    points = coordinates_mm((3, 4, 5), SPACING_MM)
    np.testing.assert_allclose(points[:, 2, 3, 4], [2.5, 2.1, 2.8], rtol=1e-6)


def test_cover_mixes_by_fraction():
    np.testing.assert_allclose(
        cover(np.array([-800.0, -800.0, -800.0]), np.array([0, 0.25, 1]), 40.0), [-800, -590, 40]
    )


@pytest.mark.parametrize("radius", [1.5, 3.0, 5.0])
def test_tube_fills_the_volume_of_a_cylinder(radius):
    shape = (40, 60, 60)
    points = coordinates_mm(shape, SPACING_MM)
    length = 40 * 1.25
    tube = [(np.array([-10.0, 20.3, 21.1]), np.array([70.0, 20.3, 21.1]), radius)]
    volume_mm3 = tube_fraction(points, SPACING_MM, tube).sum() * np.prod(SPACING_MM)
    # The soft edge is symmetric about the radius, which adds (width^2 / 12) / radius^2 of the volume.
    expected = np.pi * radius**2 * length * (1 + np.mean(SPACING_MM) ** 2 / 12 / radius**2)
    assert volume_mm3 == pytest.approx(expected, rel=0.03)


def test_tube_outside_the_image_leaves_it_empty():
    points = coordinates_mm((8, 8, 8), SPACING_MM)
    tube = [(np.array([0.0, -9.0, 0.0]), np.array([9.0, -9.0, 9.0]), 2.0)]
    assert tube_fraction(points, SPACING_MM, tube).max() == 0


def test_vessel_radii_follow_murray():
    segments = grow_vessel(np.random.default_rng(0), np.zeros(3), np.ones(3), 2.0, np.full(3, 200.0))
    starts_at = {}
    for start, _, radius in segments:
        starts_at.setdefault(tuple(start), []).append(radius)
    cubes = []
    for _, end, radius in segments:
        children = starts_at.get(tuple(end), [])
        if len(children) == 2:
            cubes.append((radius**3, sum(child**3 for child in children)))
    assert len(cubes) > 5
    np.testing.assert_allclose(*zip(*cubes, strict=True))


def test_correlated_noise_has_unit_deviation_and_its_length():
    noise = correlated_noise(np.random.default_rng(0), (48, 96, 96), SPACING_MM, 2.0)
    assert noise.std() == pytest.approx(1, rel=1e-5)
    lag = 4  # white noise blurred with a Gaussian of s: autocorrelation exp(-(d / 2s)^2)
    correlation = (noise[:, lag:] * noise[:, :-lag]).mean()
    assert correlation == pytest.approx(np.exp(-((lag * 0.7 / 4.0) ** 2)), abs=0.06)


@pytest.mark.parametrize("seed", range(12))
def test_lung_is_lung_and_the_wall_leaves_the_nodule_free(seed):
    nodule = np.zeros((24, 48, 48), bool)
    nodule[8:17, 10:30, 18:40] = True
    image, in_wall = simulate_lung(np.random.default_rng(seed), nodule, SPACING_MM)
    assert in_wall.min() >= 0
    assert in_wall.max() <= 1
    assert in_wall[nodule].max() == 0
    lung = image[in_wall == 0]
    assert -900 < np.median(lung) < -780
    assert image.min() > -1100
    assert image.max() < 1000


def test_some_images_have_a_wall_and_some_have_none():
    nodule = np.zeros((12, 24, 24), bool)
    nodule[4:8, 8:16, 8:16] = True
    walls = [simulate_lung(np.random.default_rng(s), nodule, SPACING_MM)[1].max() > 0.5 for s in range(30)]
    assert 5 <= sum(walls) <= 20
