"""Shifts on arrays: numbers against closed forms and against the libraries that they call."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from skimage import data, exposure

from nnunet_stochastic.datasets.corruptions import SHIFTS, StoredImage, check_range, corrupt_image, draw_parameters
from nnunet_stochastic.datasets.corruptions.acquisition import NUM_BIAS_COEFFICIENTS

INT16, UINT8, FLOAT32 = np.dtype(np.int16), np.dtype(np.uint8), np.dtype(np.float32)


def stored(values, spacing=(2.0, 1.0, 1.0), number_type=FLOAT32, is_colour=False):
    values = np.asarray(values, dtype=np.float32)
    return StoredImage(values, spacing, is_colour, number_type, lambda numbers, path: None)


def white_noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def structured_volume():
    """Three different planes of a photograph, in the range of CT."""
    photograph = data.camera()[::8, ::8].astype(np.float32)
    return stored(np.stack([photograph, photograph.T * 0.5, photograph[::-1]])[None] * 5 - 1000, number_type=INT16)


def colour_picture():
    picture = np.maximum(data.astronaut()[::8, ::8], 40)  # no black: a shift of the colours would show
    return stored(np.moveaxis(picture, -1, 0)[:, None], (1.0, 1.0, 1.0), UINT8, is_colour=True)


def every_shift(name):
    return draw_parameters(name, SHIFTS[name].default_range, 7)


@pytest.mark.parametrize("name", SHIFTS)
def test_every_shift_changes_an_image_and_says_by_which_numbers(name):
    image = structured_volume()
    before = image.values.copy()
    parameters = every_shift(name)
    low, high = SHIFTS[name].default_range
    assert low <= parameters[SHIFTS[name].strength] <= high
    first, second = (corrupt_image(image, name, parameters) for _ in range(2))
    assert first.shape == image.values.shape
    assert first.dtype == np.float32
    assert np.abs(first - image.values).mean() > 0.01 * image.values.std()
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(image.values, before)


@pytest.mark.parametrize("name", SHIFTS)
@pytest.mark.parametrize("number_type", [INT16, UINT8])
def test_constant_image_stays(name, number_type):
    image = stored(np.full((1, 4, 16, 16), 100.0), number_type=number_type)
    np.testing.assert_allclose(corrupt_image(image, name, every_shift(name)), image.values, atol=1e-3)


@pytest.mark.parametrize("name", SHIFTS)
def test_planes_are_across_the_coarsest_axis(name):
    values = structured_volume().values
    parameters = every_shift(name)
    expected = corrupt_image(stored(values, (3.0, 1.0, 1.0), INT16), name, parameters)
    turned = corrupt_image(stored(np.moveaxis(values, 1, 3), (1.0, 1.0, 3.0), INT16), name, parameters)
    np.testing.assert_array_equal(np.moveaxis(turned, 3, 1), expected)


@pytest.mark.parametrize(
    ("shape", "spacing", "axis"),
    [
        ((5, 6, 7), (1.0, 1.0, 1.0), 0),
        ((5, 6, 7), (1.0, 1.0 + 1e-6, 1.0), 0),
        ((5, 6, 7), (0.5, 2.5, 0.5), 1),
        ((5, 6, 7), (0.5, 3.0, 3.5), 2),
        ((1, 6, 7), (0.5, 1.0, 1.0), 0),
        ((5, 6, 1), (3.0, 1.0, 1.0), 2),
    ],
)
def test_slice_axis(shape, spacing, axis):
    assert stored(np.zeros((1, *shape)), spacing).slice_axis == axis


def test_blur_keeps_the_mean_and_reduces_the_variance_of_white_noise():
    image = stored(white_noise(1, 3, 256, 320))
    blurred = corrupt_image(image, "blur", {"sigma": 0.01})
    np.testing.assert_allclose(blurred.mean((2, 3)), image.values.mean((2, 3)), atol=1e-5)
    pixels = 0.01 * 256  # of the shorter side
    # Sum of the squared weights of a Gaussian in two dimensions.
    assert blurred[..., 16:-16, 16:-16].var() == pytest.approx(1 / (4 * np.pi * pixels**2), rel=0.05)


def test_blur_does_not_mix_planes():
    values = np.zeros((1, 3, 32, 32))
    values[0, 1] = 1
    np.testing.assert_allclose(corrupt_image(stored(values), "blur", {"sigma": 0.2}), values, atol=1e-6)


def test_noise_has_the_standard_deviation_that_was_drawn():
    image = stored(1000 + 50 * white_noise(1, 8, 64, 64))
    noise = corrupt_image(image, "noise", {"sigma": 0.3, "noise_seed": 5}) - image.values
    assert noise.std() == pytest.approx(0.3 * 50, rel=0.02)
    assert noise.mean() == pytest.approx(0, abs=0.3)
    assert np.corrcoef(noise.ravel(), image.values.ravel())[0, 1] == pytest.approx(0, abs=0.02)


def test_each_channel_has_noise_of_its_own_and_the_same_in_one_file_or_two():
    values = white_noise(2, 4, 32, 32)
    parameters = {"sigma": 0.2, "noise_seed": 5}
    both = corrupt_image(stored(values), "noise", parameters)
    second = corrupt_image(stored(values[1:]), "noise", parameters, first_channel=1)
    np.testing.assert_array_equal(both[1:], second)
    noise = both - values
    assert np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1] == pytest.approx(0, abs=0.05)


def test_contrast_is_that_of_scikit_image_in_the_range_of_each_plane():
    image = structured_volume()
    result = corrupt_image(image, "contrast", {"clip_limit": 5.0})
    for plane, equalised in zip(image.values[0], result[0], strict=True):
        low, high = plane.min(), plane.max()
        expected = exposure.equalize_adapthist((plane - low) / (high - low), clip_limit=5 / 256)
        np.testing.assert_allclose(equalised, low + (high - low) * expected, atol=1e-3)
        assert (equalised.min(), equalised.max()) == pytest.approx((low, high))


def test_contrast_of_colours_is_that_of_their_value():
    image = colour_picture()
    assert image.values.max() == 255
    expected = exposure.equalize_adapthist(np.moveaxis(image.values[:, 0], 0, -1) / 255, clip_limit=5 / 256)
    result = corrupt_image(image, "contrast", {"clip_limit": 5.0})
    np.testing.assert_allclose(result[:, 0], 255 * np.moveaxis(expected, -1, 0), atol=1e-2)


def decode(pixels, quality):
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream), dtype=np.float32)


def test_jpeg_is_that_of_pillow_over_the_range_of_the_image():
    image = structured_volume()
    low, high = image.values.min(), image.values.max()
    result = corrupt_image(image, "jpeg", {"quality": 15})
    for plane, compressed in zip(image.values[0], result[0], strict=True):
        pixels = np.rint((plane - low) * (255 / (high - low))).astype(np.uint8)
        np.testing.assert_allclose(compressed, low + decode(pixels, 15) * (high - low) / 255, atol=1e-3)


def test_jpeg_of_an_8_bit_colour_image_is_that_of_the_image():
    image = colour_picture()
    pixels = np.moveaxis(image.values[:, 0], 0, -1).astype(np.uint8)
    result = corrupt_image(image, "jpeg", {"quality": 10})
    np.testing.assert_allclose(result[:, 0], np.moveaxis(decode(pixels, 10), -1, 0), atol=1e-4)


def test_low_resolution_averages_slices_and_leaves_the_plane():
    values = np.zeros((1, 12, 8, 8))
    values[0, 6:] = 100 * white_noise(8, 8)
    result = corrupt_image(stored(values), "low_resolution", {"factor": 4.0})
    profile = result[0] / values[0, -1]
    np.testing.assert_allclose(profile, np.broadcast_to(profile[:, :1, :1], profile.shape), atol=1e-4)
    weight = profile[:, 0, 0]
    assert (np.diff(weight) >= -1e-6).all()
    assert np.count_nonzero((weight > 0.02) & (weight < 0.98)) >= 4  # a step has become a ramp of a slice's thickness
    np.testing.assert_allclose(weight + weight[::-1], 1, atol=1e-5)


def test_low_resolution_of_one_plane_is_in_the_plane():
    noise = white_noise(1, 1, 64, 64)
    result = corrupt_image(stored(noise), "low_resolution", {"factor": 4.0})
    assert result.std() < 0.3
    ramp = np.broadcast_to(np.arange(64.0), (1, 1, 64, 64))
    kept = corrupt_image(stored(ramp), "low_resolution", {"factor": 2.0})
    np.testing.assert_allclose(kept[..., 8:-8], ramp[..., 8:-8], atol=1e-3)


@pytest.mark.parametrize("axis", [1, 2])
def test_ghosting_damps_every_nth_line_of_k_space_but_the_centre(axis):
    image = stored(white_noise(1, 3, 30, 30))
    result = corrupt_image(image, "ghosting", {"intensity": 0.75, "num_ghosts": 4, "axis": axis})
    spectra = [np.fft.fftshift(np.fft.fft(values[0], axis=axis), axis) for values in (image.values, result)]
    factor = np.ones(30)
    factor[::4] = 0.25
    factor[15] = 1
    symmetric = (factor + np.roll(factor[::-1], 1)) / 2  # the real part alone is kept
    expected = np.moveaxis(np.moveaxis(spectra[0], axis, -1) * symmetric, -1, axis)
    np.testing.assert_allclose(spectra[1], expected, atol=1e-4)


def test_bias_field_is_the_exponential_of_the_polynomial_above_the_minimum():
    image = structured_volume()
    coefficients = [0.0] * NUM_BIAS_COEFFICIENTS
    coefficients[0], coefficients[1] = 0.5, -1.0  # 1 and w: the last axis counts fastest
    result = corrupt_image(image, "bias_field", {"magnitude": 0.4, "coefficients": coefficients})
    w = (np.arange(64) - 31.5) / 31.5
    low = image.values.min()
    np.testing.assert_allclose(result, low + (image.values - low) * np.exp(0.4 * (0.5 - w)), atol=1e-3)


def test_parameters_are_uniform_over_the_range():
    drawn = np.array([draw_parameters("noise", (0.1, 0.5), seed)["sigma"] for seed in range(2000)])
    np.testing.assert_allclose(np.quantile(drawn, [0, 0.25, 0.5, 0.75, 1]), [0.1, 0.2, 0.3, 0.4, 0.5], atol=0.02)
    qualities = {draw_parameters("jpeg", (10, 13), seed)["quality"] for seed in range(100)}
    assert qualities == {10, 11, 12, 13}
    assert len({draw_parameters("noise", (0.1, 0.5), seed)["noise_seed"] for seed in range(100)}) == 100
    ghosts = [draw_parameters("ghosting", (1, 1), seed) for seed in range(200)]
    assert {ghost["num_ghosts"] for ghost in ghosts} == set(range(4, 11))
    assert {ghost["axis"] for ghost in ghosts} == {1, 2}


@pytest.mark.parametrize(
    ("name", "limits", "message"),
    [
        ("fog", (0, 1), "there is no shift fog, only blur"),
        ("blur", (0.2, 0.1), "sigma of blur .* got 0.2 to 0.1"),
        ("blur", (-0.1, 0.1), r"in \[0, 1\]"),
        ("noise", (0.1, np.inf), "sigma of noise"),
        ("noise", (np.nan, 1), "sigma of noise"),
        ("jpeg", (10.5, 20), "quality of jpeg is an integer"),
        ("low_resolution", (0.5, 2), "factor of low_resolution"),
    ],
)
def test_ranges_that_are_none(name, limits, message):
    with pytest.raises(ValueError, match=message):
        check_range(name, limits)
    with pytest.raises(ValueError, match=message):
        draw_parameters(name, limits, 0)
