"""The slice that is shown, what is cut out of it, and what the figure holds."""

import numpy as np
import pytest

from nnunet_stochastic.report import CasePicture, case_figure, choose_slice

SHAPE = (6, 40, 50)


def ball(shape=SHAPE, centre=(4, 20, 25), radius=5):
    z, y, x = np.ogrid[tuple(slice(size) for size in shape)]
    return ((4 * (z - centre[0])) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 <= radius**2).astype(np.uint8)


def make_picture(**changes):
    label = ball()
    arguments = {
        "spacing_mm": (2.5, 0.5, 0.5),
        "image": np.arange(label.size, dtype=float).reshape(SHAPE),
        "prediction": label,
        "reference": label,
        "class_names": {1: "nodule"},
    }
    return CasePicture.from_volumes("case", **(arguments | changes))


def test_slice_with_most_foreground():
    assert choose_slice(ball() > 0, (2.5, 0.5, 0.5)) == (0, 4)


def test_slice_is_perpendicular_to_a_much_coarser_axis():
    foreground = np.zeros((9, 9, 9), dtype=bool)
    foreground[1:8, 2:5, 6] = True
    assert choose_slice(foreground, (0.5, 0.5, 3.0)) == (2, 6)
    assert choose_slice(foreground, (0.5, 0.5, 0.7))[0] == 0


def test_without_foreground_the_uncertainty_decides_and_else_the_middle():
    uncertainty = np.zeros(SHAPE)
    uncertainty[1] = 0.1
    nothing = np.zeros(SHAPE, dtype=bool)
    assert choose_slice(nothing, (2.5, 0.5, 0.5), uncertainty=uncertainty) == (0, 1)
    assert choose_slice(nothing, (2.5, 0.5, 0.5), uncertainty=np.zeros(SHAPE)) == (0, 3)
    assert choose_slice(nothing, (2.5, 0.5, 0.5)) == (0, 3)


def test_view_is_narrowed_to_the_foreground():
    picture = make_picture()
    # The disc reaches from 15 to 25 and from 20 to 30; around it are 16 pixels, as far as there are any.
    expected = np.arange(np.prod(SHAPE), dtype=float).reshape(SHAPE)[4, 0:40, 4:47]
    np.testing.assert_array_equal(picture.image, expected)
    assert picture.prediction.sum() == ball()[4].sum()
    assert picture.spacing_mm == (0.5, 0.5)
    assert "z = 4 of 6" in picture.where


def test_ignored_voxels_are_no_foreground():
    reference = np.full(SHAPE, 2, dtype=np.uint8)
    reference[4] = ball()[4]
    assert make_picture(reference=reference, prediction=np.zeros(SHAPE, dtype=np.uint8)).where == "slice z = 4 of 6"


def test_z_points_up_in_other_planes():
    picture = make_picture(spacing_mm=(0.5, 0.5, 4.0), prediction=ball(), image=np.indices(SHAPE)[0].astype(float))
    assert "x = 25" in picture.where
    assert picture.image[0, 0] > picture.image[-1, 0]


def test_flipped_axes_are_turned_back():
    plain, turned = make_picture(), make_picture(flipped=(True, True, True))
    np.testing.assert_array_equal(turned.image, plain.image[::-1, ::-1])
    coronal = {"spacing_mm": (0.5, 4.0, 0.5), "image": np.indices(SHAPE)[0].astype(float)}
    assert make_picture(**coronal, flipped=(True, False, False)).image[0, 0] == 0


@pytest.mark.parametrize(
    ("changes", "panels", "colour_bars", "title"),
    [
        ({}, ["image", "prediction", "reference"], 0, "case, slice z = 4 of 6"),
        ({"image": None}, ["prediction", "reference"], 0, "case, slice z = 4 of 6 (the input image was not found)"),
        (
            {"raters": [ball(radius=4)] * 4, "maps": {"variance": np.full(SHAPE, 0.1), "total": np.full(SHAPE, 0.6)}},
            ["image", "prediction", "reference and raters", "total (nats)", "variance of p"],
            2,
            "case, slice z = 4 of 6",
        ),
        (
            {"prediction": np.zeros(SHAPE, dtype=np.uint8), "reference": np.zeros(SHAPE, dtype=np.uint8)},
            ["image", "prediction", "reference"],
            0,
            "case, slice z = 3 of 6",
        ),
    ],
)
def test_panels(changes, panels, colour_bars, title):
    figure = case_figure(make_picture(**changes))
    assert [ax.get_title() for ax in figure.axes if ax.get_title()] == panels
    assert sum(image.colorbar is not None for ax in figure.axes for image in ax.images) == colour_bars
    assert figure.get_suptitle() == title


def test_entropies_share_a_scale_and_pixels_keep_their_shape():
    maps = {"total": np.full(SHAPE, 0.6), "aleatoric": np.full(SHAPE, 0.5), "epistemic": np.full(SHAPE, 0.1)}
    figure = case_figure(make_picture(maps=maps, spacing_mm=(2.5, 1.0, 0.5)))
    shown = {ax.get_title(): ax for ax in figure.axes}
    for name in maps:
        ax = shown[f"{name} (nats)"]
        assert ax.images[0].get_clim() == (0, 0.6)
        assert ax.get_aspect() == 2.0


def test_legend_names_classes_and_raters():
    figure = case_figure(make_picture(raters=[ball()] * 2, maps={"total": np.zeros(SHAPE)}))
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["nodule", "rater 0", "rater 1", "outline of the prediction"]


def test_two_dimensional_image(tmp_path):
    label = ball()[4:5]
    picture = make_picture(prediction=label, reference=label, image=label.astype(float), spacing_mm=(999, 1, 1))
    assert picture.where == ""
    case_figure(picture).savefig(tmp_path / "case.png")
    assert (tmp_path / "case.png").stat().st_size > 1000
