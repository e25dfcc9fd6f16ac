"""The slice that is shown, and what is cut out of a volume for it."""

import numpy as np
import pytest

from nnunet_stochastic.report import SliceView, choose_slice

SHAPE = (6, 60, 70)
SPACING = (2.5, 0.5, 0.5)


@pytest.fixture
def ball():
    z, y, x = np.ogrid[tuple(slice(size) for size in SHAPE)]
    return (4 * (z - 4)) ** 2 + (y - 20) ** 2 + (x - 35) ** 2 <= 15**2


def test_slice_with_most_foreground(ball):
    assert choose_slice(ball, SPACING) == (0, 4)


def test_the_maps_do_not_decide_where_there_is_foreground(ball):
    uncertainty = np.zeros(SHAPE)
    uncertainty[0] = 5
    assert choose_slice(ball, SPACING, uncertainty=uncertainty) == (0, 4)


def test_slice_is_perpendicular_to_a_much_coarser_axis():
    foreground = np.zeros((9, 9, 9), dtype=bool)
    foreground[1:8, 2:5, 6] = True
    assert choose_slice(foreground, (0.5, 0.5, 3.0)) == (2, 6)
    assert choose_slice(foreground, (0.5, 0.5, 0.7))[0] == 0


@pytest.mark.parametrize(("shape", "axis"), [((1, 9, 9), 0), ((9, 9, 1), 2)])
def test_a_2d_image_is_shown_whole_whatever_its_spacing(shape, axis):
    assert choose_slice(np.ones(shape, dtype=bool), (1.0, 3.0, 1.0)) == (axis, 0)


def test_without_foreground_the_uncertainty_decides_and_else_the_middle():
    uncertainty = np.zeros(SHAPE)
    uncertainty[1] = 0.1
    nothing = np.zeros(SHAPE, dtype=bool)
    assert choose_slice(nothing, SPACING, uncertainty=uncertainty) == (0, 1)
    assert choose_slice(nothing, SPACING, uncertainty=np.zeros(SHAPE)) == (0, 3)
    assert choose_slice(nothing, SPACING) == (0, 3)
    assert SliceView.of_case(nothing, SPACING).cut(uncertainty).shape == SHAPE[1:]


def test_window_is_the_foreground_and_half_as_much_around_it(ball):
    view = SliceView.of_case(ball, SPACING)
    # The disc is 31 wide: rows 5 to 35, columns 20 to 50; around it are 15 pixels, as far as there are any.
    volume = np.arange(ball.size).reshape(SHAPE)
    np.testing.assert_array_equal(view.cut(volume), volume[4, 0:51, 5:66])
    assert view.pixel_size == (0.5, 0.5)
    assert view.where == "xy plane, slice z = 4 (0 to 5)"


def test_colours_stay_the_last_axis(ball):
    view = SliceView.of_case(ball[4:5], (999, 1, 1))
    colours = np.arange(ball[4:5].size * 3).reshape(1, *SHAPE[1:], 3)
    np.testing.assert_array_equal(view.cut(colours), colours[0, 0:51, 5:66])
    assert (view.where, view.unit) == ("", "px")


def test_z_points_up_in_other_planes(ball):
    view = SliceView.of_case(ball, (0.5, 0.5, 4.0))
    assert view.where == "yz plane, slice x = 35 (0 to 69)"
    heights = view.cut(np.indices(SHAPE)[0])
    np.testing.assert_array_equal(heights[:, 0], [5, 4, 3, 2, 1, 0])


def test_flipped_axes_are_turned_back(ball):
    volume = np.arange(ball.size).reshape(SHAPE)
    plain, turned = (SliceView.of_case(ball, SPACING, flipped=(flip,) * 3) for flip in (False, True))
    np.testing.assert_array_equal(turned.cut(volume), plain.cut(volume)[::-1, ::-1])
    coronal = SliceView.of_case(ball, (0.5, 4.0, 0.7), flipped=(True, False, False))
    np.testing.assert_array_equal(coronal.cut(np.indices(SHAPE)[0])[:, 0], [0, 1, 2, 3, 4, 5])
    assert coronal.pixel_size == (0.5, 0.7)
    assert coronal.unit == "mm"


def test_what_is_cut_out_does_not_keep_the_volume(ball):
    volume = np.zeros(SHAPE)
    assert not np.shares_memory(SliceView.of_case(ball, SPACING).cut(volume), volume)


def test_axes_are_checked():
    with pytest.raises(ValueError, match=r"axes \(z, y, x\), got shape \(4, 5\)"):
        SliceView.of_case(np.ones((4, 5), dtype=bool), (1, 1, 1))
