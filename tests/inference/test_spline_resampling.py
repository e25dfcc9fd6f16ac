"""The product of an axis' matrices is what nnU-Net's function makes of SciPy's zoom."""

import numpy as np
import pytest
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg

from nnunet_stochastic.inference.spline_resampling import resample_image

#: A digit of float32.
DIGIT = 2.0**-23


def image_of(shape, channels=2):
    noise = np.random.default_rng(0).standard_normal((channels, *shape))
    return (100 * noise + 300).astype(np.float32)


def assert_same(ours, nnunets):
    assert ours.dtype == nnunets.dtype == np.float32
    np.testing.assert_allclose(ours, nnunets, rtol=DIGIT, atol=DIGIT * np.abs(nnunets).max())


@pytest.mark.parametrize("order", range(6))
@pytest.mark.parametrize(
    ("shape", "new_shape"),
    [
        ((30, 51, 52), (20, 26, 26)),
        ((20, 31, 22), (33, 80, 22)),
        ((1, 40, 33), (1, 20, 50)),  # a 2D image
        ((2, 3, 5), (7, 2, 9)),
        ((1, 1, 7), (3, 2, 5)),
        ((90, 3, 300), (60, 3, 205)),  # blocks that do not see both borders
    ],
)
def test_a_volume_is_nnunets(shape, new_shape, order):
    image = image_of(shape)
    assert_same(
        resample_image(image, new_shape, order=order), resample_data_or_seg(image, new_shape, False, None, order, False)
    )


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize(
    ("shape", "new_shape"), [((7, 21, 22), (5, 16, 30)), ((7, 21, 22), (15, 16, 22)), ((12, 9, 8), (12, 18, 8))]
)
def test_thick_slices_are_nnunets(shape, new_shape, axis):
    """Each is clipped to its own range, and between slices the nearest one is taken."""
    shape, new_shape = (tuple(map(int, np.roll(sizes, axis))) for sizes in (shape, new_shape))
    image = image_of(shape)
    image[:, image.shape[1] // 2 :] *= 10  # ranges of slices differ
    ours = resample_image(image, new_shape, order=3, slice_axis=axis)
    assert_same(ours, resample_data_or_seg(image, np.array(new_shape), False, axis, 3, True))


def test_a_strided_view_is_resampled_as_its_copy():
    image = image_of((14, 20, 9)).transpose(0, 3, 1, 2)[:, ::-1]
    np.testing.assert_array_equal(
        resample_image(image, (6, 20, 9), order=3), resample_image(np.ascontiguousarray(image), (6, 20, 9), order=3)
    )


def test_a_cubic_is_reproduced_within_and_clipped_at_its_range():
    """Away from the borders, where the image goes on with its last value, a cubic spline through t³ is t³."""
    position = np.arange(80.0)
    image = ((position - 40) / 40)[:, None, None] ** 3 * np.ones((1, 1, 1, 1), dtype=np.float32)
    image = image.astype(np.float32)
    resampled = resample_image(image, (60, 1, 1), order=3)[0, :, 0, 0]
    where = (np.arange(60) + 0.5) * 80 / 60 - 0.5
    inside = slice(15, 45)
    np.testing.assert_allclose(resampled[inside], ((where[inside] - 40) / 40) ** 3, atol=1e-6)
    step = np.repeat(np.float32([0, 1]), 20)[None, None, None]
    assert resample_image(step, (1, 1, 33), order=3).max() == 1


@pytest.mark.parametrize(
    ("shape", "order", "message"),
    [((4, 4), 3, "a shape \\(z, y, x\\) are needed"), ((4, 0, 4), 3, "are needed"), ((4, 4, 4), 6, "0 to 5, got 6")],
)
def test_what_cannot_be_resampled(shape, order, message):
    with pytest.raises(ValueError, match=message):
        resample_image(image_of((4, 5, 6)), shape, order=order)
