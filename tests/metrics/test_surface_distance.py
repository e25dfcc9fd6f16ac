"""Surface distances against closed forms, literal tables, distances of all pairs of points, and their symmetries."""

from itertools import permutations

import numpy as np
import pytest
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist

from nnunet_stochastic.metrics import surface_distances


def ball(shape, centre, radius_mm, spacing):
    axes = np.ogrid[tuple(slice(0, size) for size in shape)]
    return sum(((x - c) * s) ** 2 for x, c, s in zip(axes, centre, spacing, strict=True)) <= radius_mm**2


def box(shape, *edges):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*edge) for edge in edges)] = True
    return mask


def by_points(first, second, spacing):
    """Distances of all pairs of surface voxels; the surface by SciPy's erosion."""
    one, other = (np.argwhere(mask & ~binary_erosion(mask)) * spacing for mask in (first, second))
    pairs = cdist(one, other)
    return pairs.min(axis=1), pairs.min(axis=0)


def test_two_voxels():
    first, second = box((5, 6, 7), (1, 2), (1, 2), (1, 2)), box((5, 6, 7), (3, 4), (4, 5), (1, 2))
    found = surface_distances(first, second, spacing_mm=(2.0, 1.0, 0.5))
    assert found.of_first == pytest.approx([5.0])  # 2 * 2 mm, 3 * 1 mm, 0
    assert found.hausdorff_mm() == found.average_mm() == pytest.approx(5.0)
    assert [found.normalised_dice(tolerance) for tolerance in (4.99, 5.0, 6.0)] == [0, 1, 1]


def test_cubes_by_hand():
    """A cube of 3 voxels in one of 5: the small one's are 1 voxel away, a corner of the large one sqrt 3."""
    small, large = box((9, 9, 9), (3, 6), (3, 6), (3, 6)), box((9, 9, 9), (2, 7), (2, 7), (2, 7))
    found = surface_distances(small, large, spacing_mm=(2.0, 2.0, 2.0))
    assert len(found.of_first) == 26
    assert len(found.of_second) == 98
    # Of the large one 6 * 9 are in front of a face, 12 * 3 of an edge, 8 of a corner.
    np.testing.assert_allclose(np.sort(found.of_second), 2 * np.sqrt([1] * 54 + [2] * 36 + [3] * 8), rtol=1e-6)
    assert found.hausdorff_mm() == pytest.approx(np.sqrt(12))
    assert found.hausdorff_mm(50) == pytest.approx(2)
    assert found.average_mm() == pytest.approx(2 * (26 + 54 + 36 * np.sqrt(2) + 8 * np.sqrt(3)) / 124)
    assert found.normalised_dice(2) == pytest.approx((26 + 54) / 124)
    assert found.normalised_dice(3) == pytest.approx((26 + 54 + 36) / 124)


def test_plates_along_a_thick_axis():
    """A stray voxel, 1 of 401, is beyond the 95 % of its side."""
    first = box((20, 20, 30), (0, 20), (0, 20), (3, 4))
    second = first | box((20, 20, 30), (9, 10), (9, 10), (23, 24))
    found = surface_distances(first, second, spacing_mm=(1.0, 1.0, 3.0))
    assert found.hausdorff_mm() == 0
    assert found.hausdorff_mm(100) == pytest.approx(60)
    assert found.average_mm() == pytest.approx(60 / 801)
    moved = np.roll(first, 4, axis=2)
    found = surface_distances(first, moved, spacing_mm=(1.0, 1.0, 3.0))
    assert [found.hausdorff_mm(), found.average_mm()] == pytest.approx([12, 12])


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.8, 0.8)])
def test_spheres_of_one_centre(spacing):
    shape = tuple(int(60 / s) | 1 for s in spacing)
    centre = [size // 2 for size in shape]
    small, large = (ball(shape, centre, radius, spacing) for radius in (14, 22))
    found = surface_distances(small, large, spacing_mm=spacing)
    step = max(spacing)
    assert found.average_mm() == pytest.approx(8, abs=step)
    assert found.hausdorff_mm() == pytest.approx(8, abs=1.5 * step)
    assert found.normalised_dice(8 + 2 * step) == 1
    assert found.normalised_dice(8 - 2 * step) == 0


@pytest.mark.parametrize(
    ("shape", "spacing"), [((6, 7, 8), (3.0, 0.7, 1.1)), ((9, 11), (0.5, 2.0)), ((4, 5, 6), (1.0, 1.0, 1.0))]
)
@pytest.mark.parametrize("share", [0.03, 0.3, 0.8, 1.0])
def test_agrees_with_all_pairs_of_points(shape, spacing, share):
    rng = np.random.default_rng(0)
    for _ in range(5):
        first, second = rng.random((2, *shape)) < share
        first[0, 0] = second[-1, -1] = True
        found, expected = surface_distances(first, second, spacing_mm=spacing), by_points(first, second, spacing)
        np.testing.assert_allclose(found.of_first, expected[0], rtol=1e-6)
        np.testing.assert_allclose(found.of_second, expected[1], rtol=1e-6)
        worst = max(np.percentile(side, 95) for side in expected)
        assert found.hausdorff_mm() == pytest.approx(worst, rel=1e-6)
        assert found.average_mm() == pytest.approx(np.concatenate(expected).mean(), rel=1e-6)
        assert found.normalised_dice(1.1) == np.mean(np.concatenate(expected) <= 1.1 + 1e-9)


def test_flips_permutations_and_order():
    rng = np.random.default_rng(1)
    first, second = rng.random((2, 5, 6, 7)) < 0.4
    spacing = np.array([2.5, 0.6, 1.0])

    def numbers(one, other, spacing):
        found = surface_distances(one, other, spacing_mm=spacing)
        return [found.hausdorff_mm(), found.average_mm(), found.normalised_dice(1.0)]

    expected = numbers(first, second, spacing)
    assert numbers(second, first, spacing) == pytest.approx(expected, rel=1e-6)
    for axis in range(3):
        assert numbers(np.flip(first, axis), np.flip(second, axis), spacing) == pytest.approx(expected, rel=1e-6)
    for order in permutations(range(3)):
        turned = numbers(first.transpose(order), second.transpose(order), spacing[list(order)])
        assert turned == pytest.approx(expected, rel=1e-6)
    scaled = numbers(first, second, 2 * spacing)
    assert scaled[:2] == pytest.approx([2 * number for number in expected[:2]], rel=1e-6)
    padded = numbers(np.pad(first, 4), np.pad(second, 4), spacing)
    assert padded == pytest.approx(expected, rel=1e-6)


def test_a_slice_has_its_outline():
    """An axis of one voxel, whatever its spacing, makes no voxel a surface; 1 axis is a line of two ends."""
    first, second = box((9, 9), (2, 7), (2, 7)), box((9, 9), (3, 6), (3, 6))
    flat = surface_distances(first, second, spacing_mm=(1.0, 2.0))
    assert len(flat.of_first) == 16
    for axis in range(3):
        spacing = np.insert([1.0, 2.0], axis, 999.0)
        found = surface_distances(np.expand_dims(first, axis), np.expand_dims(second, axis), spacing_mm=spacing)
        np.testing.assert_array_equal(found.of_first, flat.of_first)
        np.testing.assert_array_equal(found.of_second, flat.of_second)
    line = surface_distances(box((9,), (2, 7)), box((9,), (3, 9)), spacing_mm=(0.5,))
    assert line.of_first.tolist() == [0.5, 1.0]
    assert line.of_second.tolist() == [0.5, 1.0]
    voxel = np.ones((1, 1, 1), bool)
    assert surface_distances(voxel, voxel, spacing_mm=(1, 1, 1)).hausdorff_mm() == 0


def test_equal_masks():
    full = np.ones((4, 5, 6), bool)
    found = surface_distances(full, full, spacing_mm=(1, 1, 1))
    assert len(found.of_first) == 4 * 5 * 6 - 2 * 3 * 4
    assert [found.hausdorff_mm(), found.average_mm(), found.normalised_dice(0)] == [0, 0, 1]


def test_empty_masks():
    nothing, something = np.zeros((4, 5, 6), bool), box((4, 5, 6), (1, 3), (1, 3), (1, 3))
    both = surface_distances(nothing, nothing, spacing_mm=(1, 1, 1))
    assert np.isnan([both.hausdorff_mm(), both.average_mm(), both.normalised_dice(2)]).all()
    assert not both.are_infinite
    for one, other in ((nothing, something), (something, nothing)):
        found = surface_distances(one, other, spacing_mm=(1, 1, 1))
        assert found.are_infinite
        assert [found.hausdorff_mm(), found.average_mm(), found.normalised_dice(1e9)] == [np.inf, np.inf, 0]


def test_a_tolerance_of_the_spacing_itself_holds_it():
    first, second = box((9, 9, 9), (2, 6), (2, 6), (2, 6)), box((9, 9, 9), (3, 7), (2, 6), (2, 6))
    for spacing in (0.1, 0.3, 0.7, np.float32(0.7), 1.1):
        assert surface_distances(first, second, spacing_mm=[spacing] * 3).normalised_dice(spacing) == 1


def test_bad_input():
    mask = np.ones((2, 3, 4), bool)
    with pytest.raises(ValueError, match="same shape"):
        surface_distances(mask, mask[:1], spacing_mm=(1, 1, 1))
    with pytest.raises(ValueError, match="boolean"):
        surface_distances(mask, mask.astype(int), spacing_mm=(1, 1, 1))
    for spacing in ((1, 1), (1, 0, 1), (1, np.nan, 1), (1, np.inf, 1), (1, 1, -1)):
        with pytest.raises(ValueError, match="3 positive finite numbers"):
            surface_distances(mask, mask, spacing_mm=spacing)
    found = surface_distances(mask, mask, spacing_mm=(1, 1, 1))
    for tolerance in (-1, np.nan, np.inf):
        with pytest.raises(ValueError, match="tolerance_mm"):
            found.normalised_dice(tolerance)
    with pytest.raises(ValueError, match="percentile"):
        found.hausdorff_mm(101)
