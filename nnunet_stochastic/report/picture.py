"""A case in one row, with the maxima of its maps in red as in Fig. 6 of Christensen et al., Rethinking Uncertainty
Quantification and Entanglement in Image Segmentation.

From left to right: the image with a contour per annotation and that of the prediction; the mean probability of the
foreground, 0 to 1, with the predicted classes in colour where there are several; the maps that are there: aleatoric,
epistemic, total (nats) and variance. Every panel is the same window of the same slice.

A map's colours run from 0 to its own maximum, so that its structure is seen however small it is, and the maximum in red
says how large it is. With ``shared_scale`` the three entropies run to the largest of their maxima instead: total =
aleatoric + epistemic can then be compared by eye.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from nnunet_stochastic.evaluation.model import STAND_IN_FOOTNOTE, STAND_IN_MARK
from nnunet_stochastic.report.names import as_label
from nnunet_stochastic.report.reliability import OKABE_ITO
from nnunet_stochastic.report.slice_view import SliceView

__all__ = ["MAP_TITLES", "CasePicture", "case_figure"]

MAP_TITLES = {
    "aleatoric": "aleatoric (nats)",
    "epistemic": "epistemic (nats)",
    "total": "total (nats)",
    "variance": "variance of p",
}
# Those that are light enough for a dark image come first; with more annotations the dashes tell them apart.
ANNOTATION_COLOURS = tuple(OKABE_ITO[index] for index in (4, 5, 2, 3, 6, 1, 0))
DASHES: tuple[Any, ...] = ("solid", (0, (4, 1.5)), (0, (2, 0.8)))
PANEL_WIDTH, HIGHEST_PANEL, NOTE_HEIGHT = 2.9, 4.5, 0.25  # inches
OTHER_CLASSES_COLOUR = "0.5"
MAXIMUM_COLOUR = "#FF4040"
# Text and white lines are seen on dark and bright parts alike.
OUTLINED = [withStroke(linewidth=2.2, foreground="black")]
PREDICTION_STYLE: dict[str, Any] = {
    "color": "white",
    "linestyle": "solid",
    "linewidth": 1.6,
    "path_effects": [withStroke(linewidth=2.4, foreground="black")],
}


@dataclass(frozen=True)
class CasePicture:
    """What a picture shows; arrays are what ``view`` cuts out of volumes, (rows, columns).

    Attributes
    ----------
    name
        Name of the case.
    view
        Slice and window.
    image
        First channel of the input, any unit; (rows, columns, 3) for colours from 0 to 255; or None.
    prediction
        Label map.
    foreground_probability
        Predictive mean of the foreground, 0 to 1.
    annotations
        Label map of each rater, or of the reference, under the name for the legend.
    class_names
        Name of each foreground label value; other values are not drawn.
    maps
        Uncertainty maps under the names of their folders, >= 0.
    maxima
        Maximum of each map over the whole image; where it is larger than what is shown, it is printed as well.
    epistemic_is_stand_in
        Whether the epistemic map is a stand-in, as in ``evaluation.describe_model``: then it is marked, and a line says
        what it is.
    """

    name: str
    view: SliceView
    image: np.ndarray | None
    prediction: np.ndarray
    foreground_probability: np.ndarray
    annotations: Mapping[str, np.ndarray]
    class_names: Mapping[int, str]
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    maxima: Mapping[str, float] = field(default_factory=dict)
    epistemic_is_stand_in: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What stands under the picture: the meaning of the red numbers and of the mark, where there are any."""
        whole = "volume" if self.view.num_slices > 1 else "image"
        of_maxima = f"red: maximum of what is shown (max), and where it is larger that of the whole {whole} ({whole})"
        return (*([of_maxima] if self.maps else []), *([STAND_IN_FOOTNOTE] if self.is_marked else []))

    @property
    def is_marked(self) -> bool:
        """Whether a map that is shown is not what its name says."""
        return self.epistemic_is_stand_in and "epistemic" in self.maps


@style.context("default")  # nnU-Net's own curves leave seaborn's settings behind
def case_figure(picture: CasePicture, *, shared_scale: bool = False) -> Figure:
    """Draw the row.

    Parameters
    ----------
    picture
        What to draw.
    shared_scale
        Whether to draw aleatoric, epistemic and total on one colour scale.
    """
    if unknown := sorted(picture.maps.keys() - MAP_TITLES.keys()):
        raise ValueError(f"{picture.name}: maps must be among {', '.join(MAP_TITLES)}, got {', '.join(unknown)}")
    maps = [name for name in MAP_TITLES if name in picture.maps]
    colours = _class_colours(picture)
    handles = _legend_handles(picture, colours)
    figure, panels = _empty_row(picture, 2 + len(maps), handles)
    title = ": ".join(part for part in (picture.name, picture.view.where) if part)
    figure.suptitle(as_label(title), fontsize="medium", wrap=True)
    for line, note in enumerate(reversed(picture.notes)):
        bottom = (0.1 + NOTE_HEIGHT * line) / figure.get_figheight()
        figure.text(0.5, bottom, note, ha="center", va="bottom", fontsize="small")

    _draw_image(panels[0], picture)
    _show(panels[1], picture, picture.foreground_probability, "mean p(foreground)", cmap="gray", vmin=0, vmax=1)
    _draw_labels(panels[1], picture, colours)
    tops = {name: float(picture.maps[name].max()) for name in maps}
    highest_entropy = max((top for name, top in tops.items() if name != "variance"), default=0.0)
    for name, ax in zip(maps, panels[2:], strict=True):
        limit = highest_entropy if shared_scale and name != "variance" else tops[name]
        map_title = MAP_TITLES[name]
        if name == "epistemic" and picture.is_marked:
            map_title += f" {STAND_IN_MARK}"
        # A map of zeros needs some scale, and no other value is on it.
        _show(ax, picture, picture.maps[name], map_title, cmap="magma", vmin=0, vmax=limit if limit > 0 else 1.0)
        _print_maximum(ax, picture, tops[name], picture.maxima.get(name, tops[name]))
    return figure


def _empty_row(picture: CasePicture, columns: int, handles: list[Artist]) -> tuple[Figure, np.ndarray]:
    # Laid out by hand, for matplotlib's own layout takes as long as the drawing.
    gap, title_height, border = 0.95, 0.65, 0.1
    width = columns * (PANEL_WIDTH + gap)
    longest = max(len(str(handle.get_label())) for handle in handles)
    legend_columns = max(1, min(len(handles), int(width / (0.9 + 0.1 * longest))))
    legend_height = 0.15 + 0.25 * -(-len(handles) // legend_columns)
    note_height = NOTE_HEIGHT * len(picture.notes)
    panel_height = _drawn_size(picture)[0]
    height = panel_height + title_height + legend_height + note_height + border
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(
        1,
        columns,
        squeeze=False,
        gridspec_kw={
            "left": border / width,
            "right": 1 - (gap - border) / width,
            "bottom": (legend_height + note_height + border) / height,
            "top": 1 - title_height / height,
            "wspace": gap / PANEL_WIDTH,
        },
    )[0]
    legend_box = (0, note_height / height, 1, 1)
    figure.legend(handles=handles, loc="lower center", ncols=legend_columns, frameon=False, bbox_to_anchor=legend_box)
    return figure, axes


def _drawn_size(picture: CasePicture) -> tuple[float, float]:
    """Height and width of the picture's window on the figure, inches."""
    pixel_height, pixel_width = picture.view.pixel_size
    rows, columns = picture.prediction.shape
    ratio = rows * pixel_height / (columns * pixel_width)
    height = min(PANEL_WIDTH * ratio, HIGHEST_PANEL)
    return height, height / ratio


def _draw_image(ax: Axes, picture: CasePicture) -> None:
    if picture.image is None:
        nothing = np.zeros(picture.prediction.shape)
        _show(ax, picture, nothing, "no image found", colour_bar=False, cmap="gray", vmin=0, vmax=1)
    elif picture.image.ndim == 3:
        _show(ax, picture, np.clip(picture.image / 255, 0, 1), "image", colour_bar=False)
    else:
        known = np.isfinite(picture.image)
        low, high = np.percentile(picture.image[known], [0.5, 99.5]) if known.any() else (0.0, 1.0)
        limits = {"vmin": low, "vmax": high if high > low else low + 1.0}
        _show(ax, picture, np.where(known, picture.image, low), "image", colour_bar=False, cmap="gray", **limits)
    _outline(ax, picture, picture.prediction, **PREDICTION_STYLE)
    for index, annotation in enumerate(picture.annotations.values()):
        _outline(ax, picture, annotation, **_annotation_style(index))
    _scale_bar(ax, picture)


def _show(
    ax: Axes, picture: CasePicture, values: np.ndarray, title: str, *, colour_bar: bool = True, **style: Any
) -> AxesImage:
    pixel_height, pixel_width = picture.view.pixel_size
    shown = ax.imshow(values, aspect=pixel_height / pixel_width, interpolation="none", **style)
    ax.set_axis_off()
    ax.set_title(title, fontsize="medium")
    if colour_bar:
        height, width = _drawn_size(picture)
        bar = ax.figure.colorbar(shown, cax=ax.inset_axes((1 + 0.08 / width, 0.0, 0.13 / width, 1.0)), format="{x:.3g}")
        bar.ax.locator_params(nbins=int(np.clip(height / 0.35, 1, 5)))
        bar.ax.tick_params(labelsize="small", pad=2)
    return shown


def _draw_labels(ax: Axes, picture: CasePicture, colours: Mapping[int, str]) -> None:
    if len(picture.class_names) == 1:  # the probability says it all
        return
    overlay = np.zeros((*picture.prediction.shape, 4))
    for value in picture.class_names:
        overlay[picture.prediction == value] = to_rgba(colours.get(value, OTHER_CLASSES_COLOUR), alpha=0.5)
    ax.imshow(overlay, aspect=ax.get_aspect(), interpolation="none")


def _print_maximum(ax: Axes, picture: CasePicture, shown: float, whole: float) -> None:
    text = f"max {shown:.3g}"
    if f"{whole:.3g}" != f"{shown:.3g}":
        text += f"\n{'volume' if picture.view.num_slices > 1 else 'image'} {whole:.3g}"
    style: dict[str, Any] = {
        "color": MAXIMUM_COLOUR,
        "fontsize": "medium",
        "fontweight": "bold",
        "path_effects": OUTLINED,
    }
    ax.text(0.03, 0.97, text, transform=ax.transAxes, va="top", **style)


def _outline(ax: Axes, picture: CasePicture, label: np.ndarray, **style: Any) -> None:
    """The border of each class, which runs along the edge of the view where the class does."""
    # A margin without the class closes the contour, and lets a view of one row or one class have one.
    rows, columns = (np.arange(-1, size + 1) for size in label.shape)
    padded = np.pad(label, 1)
    for value in np.intersect1d(label, list(picture.class_names)):
        mask = padded == value
        contour = ax.contour(
            columns,
            rows,
            mask,
            levels=[0.5],
            colors=style["color"],
            linestyles=[style["linestyle"]],
            linewidths=style["linewidth"],
        )
        contour.set_path_effects(style.get("path_effects", []))
    ax.set(xlim=(-0.5, label.shape[1] - 0.5), ylim=(label.shape[0] - 0.5, -0.5))


def _scale_bar(ax: Axes, picture: CasePicture) -> None:
    """A bar of 1, 2 or 5 times a power of ten, about a quarter of the width."""
    height, width = picture.prediction.shape
    wanted = 0.25 * width * picture.view.pixel_size[1]
    power = 10.0 ** np.floor(np.log10(wanted))
    length = max(factor * power for factor in (1, 2, 5) if factor * power <= wanted)
    end, row = 0.95 * width - 0.5, 0.94 * height - 0.5
    stroke = [withStroke(linewidth=4.5, foreground="black")]
    ax.plot([end - length / picture.view.pixel_size[1], end], [row, row], color="white", lw=2.5, path_effects=stroke)
    text = f"{length:g} {picture.view.unit}"
    style: dict[str, Any] = {"color": "white", "fontsize": "small", "path_effects": OUTLINED}
    ax.text(end, row - 0.03 * height, text, ha="right", va="bottom", **style)


def _legend_handles(picture: CasePicture, colours: Mapping[int, str]) -> list[Artist]:
    styles = {"prediction": PREDICTION_STYLE}
    styles |= {name: _annotation_style(index) for index, name in enumerate(picture.annotations)}
    handles: list[Artist] = [Line2D([], [], label=as_label(name), **style) for name, style in styles.items()]
    if len(picture.class_names) == 1:
        return handles
    shown = [value for value in picture.class_names if np.any(picture.prediction == value)]
    handles += [
        Patch(color=colours[value], alpha=0.6, label=as_label(picture.class_names[value]))
        for value in shown
        if value in colours
    ]
    if others := sum(value not in colours for value in shown):
        handles.append(Patch(color=OTHER_CLASSES_COLOUR, alpha=0.6, label=f"{others} other classes"))
    return handles


def _class_colours(picture: CasePicture) -> dict[int, str]:
    """A colour per class; with more classes than colours, those that cover most of the shown prediction have one."""
    values = list(picture.class_names)
    if len(values) > len(OKABE_ITO):
        covered = {value: int((picture.prediction == value).sum()) for value in values}
        values = sorted(sorted(values, key=lambda value: -covered[value])[: len(OKABE_ITO)])
    return dict(zip(values, OKABE_ITO, strict=False))


def _annotation_style(index: int) -> dict[str, Any]:
    colour = ANNOTATION_COLOURS[index % len(ANNOTATION_COLOURS)]
    return {"color": colour, "linestyle": DASHES[index % len(DASHES)], "linewidth": 1.1}
