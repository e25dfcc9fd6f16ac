"""Image scores against counted values, sliding windows and scikit-image, and their divisors of zero."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from skimage.segmentation import find_boundaries

from nnunet_stochastic.metrics import (
    border_length,
    image_mean,
    mean_above,
    patch_maximum,
    per_area,
    per_border,
)

UNCERTAINTY = np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])
PREDICTION = np.array([[0, 1, 1], [0, 0, 2]])


def test_by_hand():
    assert image_mean(UNCERTAINTY) == 2.5
    assert mean_above(UNCERTAINTY, 3.0) == 4
    assert mean_above(UNCERTAINTY, 5.5) == 0
    assert patch_maximum(UNCERTAINTY, side=2) == 3  # of columns 1 and 2
    assert patch_maximum(UNCERTAINTY, side=1) == 5
    # Rows: 0|1 and 0|2; columns: 1|0 and 1|2.
    assert border_length(PREDICTION) == 4
    assert per_area(UNCERTAINTY, PREDICTION) == 5
    assert per_border(UNCERTAINTY, PREDICTION) == 15 / 4


@pytest.mark.parametrize(("shape", "side"), [((30, 17), 10), ((5, 40), 10), ((6, 13, 12), 4), ((150, 3), 2)])
def test_patches_against_every_window(shape, side):
    uncertainty = np.random.default_rng(0).random(shape, dtype=np.float32)
    window = tuple(min(side, length) for length in shape)
    windows = np.lib.stride_tricks.sliding_window_view(uncertainty, window)
    expected = windows.mean(axis=tuple(range(len(shape), 2 * len(shape))), dtype=np.float64).max()
    assert patch_maximum(uncertainty, side=side) == pytest.approx(expected, rel=1e-10)


def test_the_default_patch_is_ten_voxels_a_side():
    uncertainty = np.zeros((40, 40))
    uncertainty[20:30, 7:17] = 0.5
    uncertainty[0, 0] = 20
    assert patch_maximum(uncertainty) == pytest.approx(0.5)


def test_border_of_a_box():
    box = np.zeros((8, 9, 10), dtype=np.uint8)
    box[2:5, 3:7, 1:6] = 1  # 3 x 4 x 5: faces 2 (12 + 15 + 20)
    assert border_length(box) == 94
    box[5:7, 3:7, 1:6] = 2  # a neighbour of another label: their shared face counts once
    assert border_length(box) == 2 * (12 + 15 + 20) + 2 * (8 + 10 + 20) - 20
    assert border_length(box.transpose(2, 0, 1)) == border_length(box)


def test_border_of_a_line_against_scikit_image():
    line = np.random.default_rng(1).integers(0, 3, 200)
    assert border_length(line) == find_boundaries(line, mode="subpixel").sum()


def test_border_norm_does_not_grow_with_the_structure():
    scores = []
    for width in (8, 16, 32):
        mask = np.zeros((64, 64), dtype=int)
        mask[10 : 10 + width, 10 : 10 + width] = 1
        uncertainty = 0.3 * (binary_dilation(mask) & (mask == 0))
        scores.append((per_border(uncertainty, mask), image_mean(uncertainty)))
    normalized, means = np.transpose(scores)
    np.testing.assert_allclose(normalized, 0.3)
    assert means[2] > 3.9 * means[0]


def test_divisors_of_zero_count_as_one():
    empty = np.zeros_like(PREDICTION)
    assert per_area(UNCERTAINTY, empty) == UNCERTAINTY.sum()
    assert per_border(UNCERTAINTY, empty) == UNCERTAINTY.sum()
    assert per_border(UNCERTAINTY, empty + 1) == UNCERTAINTY.sum()


def test_no_voxels():
    nothing = np.zeros((0, 3))
    labels = nothing.astype(int)
    scores = [image_mean(nothing), patch_maximum(nothing), mean_above(nothing, 0.0), per_area(nothing, labels)]
    assert np.isnan([*scores, per_border(nothing, labels)]).all()


@pytest.mark.parametrize("place", [(0, 0), (1, 2)])
def test_one_nan_makes_every_score_nan(place):
    uncertainty = UNCERTAINTY.copy()
    uncertainty[place] = np.nan
    scores = [image_mean(uncertainty), patch_maximum(uncertainty, side=1), patch_maximum(uncertainty)]
    scores += [mean_above(uncertainty, 3.0), per_area(uncertainty, PREDICTION), per_border(uncertainty, PREDICTION)]
    assert np.isnan(scores).all()
    assert np.isnan(mean_above(UNCERTAINTY, np.nan))


def test_nan_in_one_slab_of_patches():
    uncertainty = np.zeros((200, 3))
    uncertainty[100, 1] = np.nan
    assert np.isnan(patch_maximum(uncertainty, side=2))


def test_bad_input():
    with pytest.raises(ValueError, match="at least 1"):
        patch_maximum(UNCERTAINTY, side=0)
    for score in (per_area, per_border):
        with pytest.raises(ValueError, match="must hold integers"):
            score(UNCERTAINTY, np.full_like(UNCERTAINTY, np.nan))
        with pytest.raises(ValueError, match="same shape"):
            score(UNCERTAINTY, PREDICTION.T)
