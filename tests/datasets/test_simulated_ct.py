"""The simulated CT: the edge's closed form, its width where raters disagree, determinism and HU ranges."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr

from nnunet_stochastic.datasets.lidc_nodules import load_nodules
from nnunet_stochastic.datasets.simulated_ct import ct_noise, nodule_fraction, place_masks, simulate_case

SPACING_MM = (1.25, 0.7, 0.7)


@pytest.fixture(scope="module")
def nodules():
    return load_nodules()


def half_spaces(*ends):
    """One mask per end: columns below it are nodule."""
    masks = np.zeros((len(ends), 4, 4, 40), bool)
    for mask, end in zip(masks, ends, strict=True):
        mask[..., :end] = True
    return masks


def test_edge_of_agreeing_raters_is_a_normal_distribution_function():
    fraction = nodule_fraction(half_spaces(20, 20, 20, 20), SPACING_MM)
    # Signed distance of voxel x to the other side's nearest voxel: inside 19 -> -0.7 mm, outside 20 -> +0.7 mm.
    np.testing.assert_allclose(fraction[2, 2, 18:22], ndtr(np.array([1.4, 0.7, -0.7, -1.4]) / 0.5), rtol=1e-6)


def test_edge_of_disagreeing_raters_is_as_wide_as_they_lie_apart():
    fraction = nodule_fraction(half_spaces(16, 16, 24, 24), SPACING_MM)
    # At voxel 26 the distances are 11, 11, 3, 3 voxels: mean 7, deviation 4.
    assert fraction[2, 2, 26] == pytest.approx(ndtr(-7 * 0.7 / np.hypot(4 * 0.7, 0.5)), rel=1e-6)


def test_edge_width_grows_with_disagreement():
    def width_mm(half_distance):
        masks = half_spaces(20 - half_distance, 20 - half_distance, 20 + half_distance, 20 + half_distance)
        profile = nodule_fraction(masks, SPACING_MM)[2, 2]
        return 0.7 * (profile * (1 - profile)).sum()  # 0.56 standard deviations of a Gaussian edge

    widths = [width_mm(k) for k in range(6)]
    assert (np.diff(widths) > 0.2).all()


def test_fraction_follows_the_raters_on_real_masks(nodules):
    for index in (0, 40, 90):
        nodule = nodules[index]
        masks = np.pad(nodule.masks, ((0, 0), (3, 3), (3, 3), (3, 3)))
        fraction = nodule_fraction(masks, nodule.spacing_mm)
        votes = masks.mean(0)
        by_votes = [fraction[votes == v].mean() for v in (0, 0.25, 0.5, 0.75, 1)]
        assert (np.diff(by_votes) > 0).all()
        assert by_votes[0] < 0.05
        assert by_votes[-1] > 0.85


def test_empty_mask_is_refused():
    masks = half_spaces(20, 20, 20)
    masks[1] = False
    with pytest.raises(ValueError, match=r"raters \[1\] are empty"):
        nodule_fraction(masks, SPACING_MM)


def test_ct_noise_is_zero_mean_band_noise():
    noise = ct_noise(np.random.default_rng(0), (16, 64, 64), SPACING_MM)
    assert noise.std() == pytest.approx(1, rel=1e-5)
    power = (np.abs(np.fft.fft2(noise)) ** 2).mean(0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(64, 0.7), np.fft.fftfreq(64, 0.7)))
    low, middle, high = (
        power[(frequency >= a) & (frequency < b)].mean() for a, b in ((0, 0.05), (0.15, 0.3), (0.6, 1))
    )
    assert middle > 2 * low
    assert middle > 4 * high


def test_same_seed_same_image_other_seed_other_image(nodules):
    case, again = (simulate_case(nodules[5], seed=3, index=5) for _ in range(2))
    np.testing.assert_array_equal(case.image_hu, again.image_hu)
    np.testing.assert_array_equal(case.raters, again.raters)
    for other in (simulate_case(nodules[5], seed=4, index=5), simulate_case(nodules[5], seed=3, index=6)):
        assert (other.image_hu != case.image_hu).mean() > 0.5


def test_raters_are_the_real_masks(nodules):
    for index in range(0, 100, 7):
        nodule = nodules[index]
        raters = place_masks(nodule, np.random.default_rng(index))
        assert raters.sum((1, 2, 3)).tolist() == nodule.masks.sum((1, 2, 3)).tolist()
        occupied = np.argwhere(raters.any(0))
        low, high = occupied.min(0), occupied.max(0) + 1
        np.testing.assert_array_equal(raters[:, low[0] : high[0], low[1] : high[1], low[2] : high[2]], nodule.masks)
        assert low.min() >= 2
        assert (raters.shape[1:] - high).min() >= 2
        extent_mm = np.array(raters.shape[1:]) * nodule.spacing_mm
        assert (extent_mm <= np.array([30, 36, 36]) + 1e-4).all()
        assert (extent_mm > [28, 35, 35]).all()


def test_hounsfield_units_are_those_of_a_chest(nodules):
    for index in range(0, 100, 9):
        case = simulate_case(nodules[index], seed=0, index=index)
        assert case.image_hu.dtype == np.int16
        assert case.image_hu.min() >= -1024
        assert case.image_hu.max() < 1200
        outside = case.image_hu[~case.raters.any(0)]
        assert -920 < np.percentile(outside, 25) < -780
        core = np.median(case.image_hu[case.raters.all(0)])
        assert core > np.percentile(outside, 25) + 150
        if nodules[index].characteristics["texture"].mean() == 5:
            assert -350 < core < 300


def test_majority_counts_a_tie_as_foreground(nodules):
    case = simulate_case(nodules[0], seed=0, index=0)
    votes = case.raters.sum(0)
    assert (votes == 2).any()
    np.testing.assert_array_equal(case.majority, votes >= 2)


def test_bad_input_is_refused(nodules):
    with pytest.raises(ValueError, match="seed -1"):
        simulate_case(nodules[0], seed=-1, index=0)
    large = replace(nodules[0], masks=np.ones((4, 40, 10, 10), bool))
    with pytest.raises(ValueError, match="LIDC-IDRI-0850 spans"):
        simulate_case(large, seed=0, index=0)
