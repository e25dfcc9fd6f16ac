"""What the artists of the figure hold: the values, colour limits, printed maxima and contours."""

from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba

from nnunet_stochastic.report import OKABE_ITO, CasePicture, SliceView, case_figure

SHAPE = (3, 40, 50)
SPACING = (2.5, 1.0, 0.5)
IMAGE = np.arange(np.prod(SHAPE), dtype=float).reshape(SHAPE)


def rectangle(rows=(15, 25), columns=(18, 34), slices=(1, 2)):
    label = np.zeros(SHAPE, dtype=np.uint8)
    label[slice(*slices), slice(*rows), slice(*columns)] = 1
    return label


def make_picture(*, image=IMAGE, prediction=None, annotations=None, maps=None, spacing=SPACING, **changes):
    """A picture of volumes, with the window that a rectangle has."""
    prediction = rectangle() if prediction is None else prediction
    annotations = {"reference": rectangle(columns=(18, 36))} if annotations is None else annotations
    maps = maps or {}
    foreground = np.any([volume > 0 for volume in (prediction, *annotations.values())], axis=0)
    view = SliceView.of_case(foreground, spacing, uncertainty=maps.get("total"))
    arguments = {
        "name": "case",
        "view": view,
        "image": None if image is None else view.cut(image),
        "prediction": view.cut(prediction),
        "foreground_probability": view.cut(0.25 + 0.5 * (prediction > 0)),
        "annotations": {name: view.cut(annotation) for name, annotation in annotations.items()},
        "class_names": {1: "nodule"},
        "maps": {name: view.cut(volume) for name, volume in maps.items()},
        "maxima": {name: float(volume.max()) for name, volume in maps.items()},
    }
    return CasePicture(**(arguments | changes))


def entropies():
    rng = np.random.default_rng(0)
    maps = {"total": rng.uniform(0, 0.6, SHAPE), "epistemic": rng.uniform(0, 0.006, SHAPE)}
    return maps | {"aleatoric": maps["total"] - 0.99 * maps["total"] * (maps["epistemic"] > 0.001)}


def panels(figure):
    return {ax.get_title(): ax for ax in figure.axes if ax.get_title()}


def contours(ax):
    """Extents (left, right, top, bottom) of each contour by its colour, in order of drawing."""
    found = {}
    for collection in ax.collections:
        vertices = collection.get_paths()[0].vertices
        (left, top), (right, bottom) = vertices.min(axis=0), vertices.max(axis=0)
        found[tuple(collection.get_edgecolor()[0])] = (left, right, top, bottom)
    return found


def legend_texts(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_every_panel_shows_the_same_window_of_its_own_volume():
    maps = entropies()
    picture = make_picture(maps=maps | {"variance": maps["total"] / 4})
    shown = panels(case_figure(picture))
    assert list(shown) == [
        "image",
        "mean p(foreground)",
        "aleatoric (nats)",
        "epistemic (nats)",
        "total (nats)",
        "variance of p",
    ]
    # Foreground is in rows 15 to 24 and columns 18 to 35; around it are 12 pixels.
    window = (1, slice(3, 37), slice(6, 48))
    np.testing.assert_array_equal(shown["image"].images[0].get_array(), IMAGE[window])
    probability = 0.25 + 0.5 * rectangle()[window]
    np.testing.assert_array_equal(shown["mean p(foreground)"].images[0].get_array(), probability)
    for name, volume in maps.items():
        np.testing.assert_array_equal(shown[f"{name} (nats)"].images[0].get_array(), volume[window])
    assert {ax.get_aspect() for ax in shown.values()} == {2.0}
    assert len({(ax.get_xlim(), ax.get_ylim()) for ax in shown.values()}) == 1


@pytest.mark.parametrize("shared_scale", [False, True])
def test_colour_limits(shared_scale):
    picture = make_picture(maps=entropies() | {"variance": np.full(SHAPE, 0.2)})
    shown = panels(case_figure(picture, shared_scale=shared_scale))
    highest = max(picture.maps[name].max() for name in ("aleatoric", "epistemic", "total"))
    for name in ("aleatoric", "epistemic", "total"):
        top = highest if shared_scale else picture.maps[name].max()
        assert shown[f"{name} (nats)"].images[0].get_clim() == (0, top)
    assert shown["variance of p"].images[0].get_clim() == (0, 0.2)
    assert shown["mean p(foreground)"].images[0].get_clim() == (0, 1)


@pytest.mark.parametrize("shared_scale", [False, True])
def test_printed_maximum_is_that_of_what_is_shown(shared_scale):
    total = np.zeros(SHAPE)
    total[1, 20, 20] = 0.41234
    total[0, 0, 0] = 0.65  # in another slice
    epistemic = np.zeros(SHAPE)
    epistemic[1, 20, 22] = 0.0023
    figure = case_figure(make_picture(maps={"total": total, "epistemic": epistemic}), shared_scale=shared_scale)
    shown = panels(figure)
    note = "red: maximum of what is shown (max), and where it is larger that of the whole volume (volume)"
    assert note in [text.get_text() for text in figure.texts]
    for title, text in (("total (nats)", "max 0.412\nvolume 0.65"), ("epistemic (nats)", "max 0.0023")):
        (maximum,) = shown[title].texts
        assert maximum.get_text() == text
        red, green, blue, _ = to_rgba(maximum.get_color())
        assert red == 1
        assert green == blue < 0.3


def test_constant_maps_and_maps_of_zeros_have_a_scale():
    shown = panels(case_figure(make_picture(maps={"total": np.full(SHAPE, 0.3), "epistemic": np.zeros(SHAPE)})))
    assert shown["total (nats)"].images[0].get_clim() == (0, 0.3)
    assert shown["epistemic (nats)"].images[0].get_clim() == (0, 1)
    assert shown["epistemic (nats)"].texts[0].get_text() == "max 0"


def test_colour_bars_are_as_high_as_their_panel():
    figure = case_figure(make_picture(maps=entropies()))
    figure.draw_without_rendering()
    shown = panels(figure)
    assert shown["image"].images[0].colorbar is None
    for title, ax in shown.items():
        if title != "image":
            panel, bar = ax.get_window_extent(), ax.images[0].colorbar.ax.get_window_extent()
            assert (bar.y0, bar.y1) == pytest.approx((panel.y0, panel.y1))
            assert bar.x0 > panel.x1


@pytest.mark.parametrize("rows", [(15, 25), (0, 40)])
def test_nothing_overlaps(rows):
    """Neither the texts of one panel and the next, nor title and legend, for flat and high windows."""
    annotations = {f"rater {index}": rectangle(rows=rows) for index in range(9)}
    figure = case_figure(make_picture(maps=entropies(), annotations=annotations))
    figure.draw_without_rendering()
    boxes = [ax.get_tightbbox() for ax in panels(figure).values()]
    for left, right in pairwise(boxes):
        assert left.x1 <= right.x0
    assert max(box.x1 for box in boxes) <= figure.bbox.x1
    assert max(box.y1 for box in boxes) <= figure.texts[0].get_window_extent().y0
    assert min(box.y0 for box in boxes) >= figure.legends[0].get_window_extent().y1


def test_contours_lie_on_the_borders_of_the_masks():
    raters = {"rater 0": rectangle(), "rater 1": rectangle(rows=(17, 20)), "rater 2": 0 * rectangle()}
    figure = case_figure(make_picture(annotations=raters, prediction=rectangle(columns=(20, 30))))
    # In the window, which begins at row 3 and column 6; pixel n reaches from n - 0.5 to n + 0.5.
    assert list(contours(panels(figure)["image"]).values()) == [
        pytest.approx((13.5, 23.5, 11.5, 21.5)),
        pytest.approx((11.5, 27.5, 11.5, 21.5)),
        pytest.approx((11.5, 27.5, 13.5, 16.5)),
    ]
    assert legend_texts(figure) == ["prediction", "rater 0", "rater 1", "rater 2"]


def test_a_mask_that_fills_the_image_has_a_contour():
    everything = np.ones(SHAPE, dtype=np.uint8)
    ax = panels(case_figure(make_picture(prediction=everything, annotations={"reference": everything})))["image"]
    assert set(contours(ax).values()) == {(-0.5, 49.5, -0.5, 39.5)}
    assert (ax.get_xlim(), ax.get_ylim()) == ((-0.5, 49.5), (39.5, -0.5))


def test_contours_have_the_colours_of_the_legend_and_differ():
    figure = case_figure(make_picture(annotations={f"rater {index}": rectangle() for index in range(9)}))
    (legend,) = figure.legends
    styles = [(line.get_color(), line._dash_pattern) for line in legend.get_lines()]
    assert len({str(style) for style in styles}) == 10
    drawn = [tuple(collection.get_edgecolor()[0]) for collection in panels(figure)["image"].collections]
    assert drawn == [to_rgba(colour) for colour, _ in styles]


def test_several_classes():
    prediction = rectangle()
    prediction[1, 15:25, 26:34] = 2
    figure = case_figure(make_picture(prediction=prediction, class_names={1: "liver", 2: "tumour", 3: "vessel"}))
    assert legend_texts(figure) == ["prediction", "reference", "liver", "tumour"]
    overlay = panels(figure)["mean p(foreground)"].images[1].get_array()
    np.testing.assert_allclose(overlay[12, 12], to_rgba(OKABE_ITO[0], 0.5))
    np.testing.assert_allclose(overlay[12, 22], to_rgba(OKABE_ITO[1], 0.5))
    assert overlay[0, 0, 3] == 0


def test_with_many_classes_the_largest_have_colours():
    prediction = np.zeros(SHAPE, dtype=np.uint8)
    prediction[1, 10:31, 4:46] = np.arange(42) + 1  # a column each
    prediction[1, 31:33, 40:46] = np.arange(36, 42) + 1
    names = {value: f"organ {value}" for value in range(1, 43)}
    figure = case_figure(make_picture(prediction=prediction, annotations={"reference": prediction}, class_names=names))
    named = [1, *range(37, 43)]
    others = "35 other classes"
    assert legend_texts(figure) == ["prediction", "reference", *(f"organ {value}" for value in named), others]
    overlay = panels(figure)["mean p(foreground)"].images[1].get_array()
    # The window begins at row and column 0.
    np.testing.assert_allclose(overlay[15, 4], to_rgba(OKABE_ITO[0], 0.5))
    np.testing.assert_allclose(overlay[15, 5], to_rgba("0.5", 0.5))
    np.testing.assert_allclose(overlay[15, 45], to_rgba(OKABE_ITO[6], 0.5))


@pytest.mark.parametrize("image", [None, np.full(SHAPE, np.nan), np.zeros(SHAPE)])
def test_without_image_or_foreground(image):
    nothing = np.zeros(SHAPE, dtype=np.uint8)
    total = np.zeros(SHAPE)
    total[2] = 0.1
    picture = make_picture(image=image, prediction=nothing, annotations={"reference": nothing}, maps={"total": total})
    figure = case_figure(picture)
    assert figure.get_suptitle() == "case: xy plane, slice z = 2 (0 to 2)"
    first, *others = panels(figure)
    assert first == ("no image found" if image is None else "image")
    assert others == ["mean p(foreground)", "total (nats)"]
    ax = panels(figure)[first]
    assert contours(ax) == {}
    assert np.all(ax.images[0].get_array() == 0)


def test_extreme_grey_values_do_not_set_the_limits():
    image = np.tile(np.linspace(0, 100, SHAPE[2]), (*SHAPE[:2], 1))
    image[1, 20, 20] = 1e6
    image[1, 21, 21] = np.nan
    low, high = panels(case_figure(make_picture(image=image)))["image"].images[0].get_clim()
    assert 0 <= low < 20
    assert 90 < high <= 100


def test_two_dimensional_image_in_colours(tmp_path):
    label = rectangle()[1:2]
    colours = np.random.default_rng(0).integers(0, 256, (*label.shape, 3))
    picture = make_picture(
        prediction=label,
        annotations={"reference": label},
        image=colours,
        spacing=(999, 1, 1),
        maps={"total": 0 * label},
    )
    figure = case_figure(picture)
    ax = panels(figure)["image"]
    np.testing.assert_allclose(ax.images[0].get_array(), picture.image / 255)
    (scale_bar,) = ax.texts
    assert scale_bar.get_text() == "10 px"
    assert figure.get_suptitle() == "case"
    figure.savefig(tmp_path / "case.png")
    assert (tmp_path / "case.png").stat().st_size > 1000


def test_scale_bar_is_as_long_as_it_says():
    ax = panels(case_figure(make_picture()))["image"]
    (text,) = ax.texts
    (line,) = ax.lines
    length_mm = 0.5 * np.ptp(line.get_xdata())
    assert text.get_text() == f"{length_mm:g} mm" == "5 mm"


def test_unknown_map():
    with pytest.raises(ValueError, match="case: maps must be among aleatoric, epistemic, total, variance, got entropy"):
        case_figure(make_picture(maps={"entropy": np.zeros(SHAPE)}))


@pytest.mark.parametrize("rows", [(15, 25), (0, 40)])
def test_the_epistemic_map_of_one_member_is_marked(rows):
    maps, annotations = entropies(), {f"rater {index}": rectangle(rows=rows) for index in range(9)}
    figure = case_figure(make_picture(maps=maps, annotations=annotations, epistemic_is_stand_in=True))
    assert [title for title in panels(figure) if "†" in title] == ["epistemic (nats) †"]
    (note,) = (text for text in figure.texts if text.get_text().startswith("†"))
    assert note.get_text() == (
        "† one member: its aleatoric samples stand in for members; not to be read as epistemic uncertainty"
    )
    figure.draw_without_rendering()
    legend, box = figure.legends[0].get_window_extent(), note.get_window_extent()
    assert box.y0 >= 0
    assert legend.y0 >= box.y1
    assert min(ax.get_tightbbox().y0 for ax in panels(figure).values()) >= legend.y1
    for picture in (make_picture(maps=maps), make_picture(maps={"total": maps["total"]}, epistemic_is_stand_in=True)):
        assert not any("†" in text for text in [*panels(case_figure(picture)), *map(str, case_figure(picture).texts)])


def test_settings_that_another_library_left_behind_change_nothing():
    def pixels(figure):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())

    expected = pixels(case_figure(make_picture(maps=entropies())))
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "text.color": "blue", "axes.grid": True}):
        figure = case_figure(make_picture(maps=entropies()))
    np.testing.assert_array_equal(pixels(figure), expected)
