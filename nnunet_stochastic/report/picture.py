"""A case in one picture: image, prediction, reference with the raters' contours, and the uncertainty maps.

One slice is shown, perpendicular to z unless another axis is much coarser: where prediction and annotations together
hold most foreground, else where the total uncertainty is largest. The view is narrowed to what is annotated or
predicted there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from nnunet_stochastic.report.reliability import OKABE_ITO

__all__ = ["CasePicture", "case_figure", "choose_slice"]

MAP_TITLES = {
    "total": "total (nats)",
    "aleatoric": "aleatoric (nats)",
    "epistemic": "epistemic (nats)",
    "variance": "variance of p",
}
# Not the colours of the first two classes; with more classes the dashes tell raters apart.
RATER_COLOURS = ("#F0E442", "#E69F00", "#CC79A7", "#009E73")
# Sky blue is seen on every part of the magma colour map.
OUTLINE_STYLE: dict[str, Any] = {"colors": "#56B4E9", "linestyles": "solid", "linewidths": 1.0}


@dataclass(frozen=True)
class CasePicture:
    """What a picture shows; arrays are one slice, (rows, columns).

    Attributes
    ----------
    name
        The case.
    where
        Which slice it is, for the title.
    spacing_mm
        Row and column spacing.
    image
        First channel of the input, any unit, or None.
    prediction
        Label map.
    reference
        Label map.
    class_names
        Name of each foreground label value; other values are not drawn.
    raters
        Label maps.
    maps
        Uncertainty maps under the names of their folders.
    """

    name: str
    where: str
    spacing_mm: tuple[float, float]
    image: np.ndarray | None
    prediction: np.ndarray
    reference: np.ndarray
    class_names: Mapping[int, str]
    raters: tuple[np.ndarray, ...] = ()
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def from_volumes(
        cls,
        name: str,
        *,
        spacing_mm: Sequence[float],
        image: np.ndarray | None,
        prediction: np.ndarray,
        reference: np.ndarray,
        class_names: Mapping[int, str],
        raters: Sequence[np.ndarray] = (),
        maps: Mapping[str, np.ndarray] | None = None,
        flipped: Sequence[bool] = (False, False, False),
    ) -> CasePicture:
        """Cut the slice out of volumes (z, y, x) with spacing_mm (z, y, x).

        ``flipped`` names the array axes (z, y, x) that run against superior, posterior, left, so that the picture has
        superior or anterior at its top, and the patient's left at its right, as radiologists look at it.
        """
        maps = dict(maps or {})
        volumes = (prediction, reference, *raters)
        foreground = np.any([np.isin(volume, list(class_names)) for volume in volumes], axis=0)
        axis, index = choose_slice(foreground, spacing_mm, uncertainty=maps.get("total"))
        window = _window(np.take(foreground, index, axis=axis))
        rows, columns = (spacing for other, spacing in enumerate(spacing_mm) if other != axis)
        # Rows are z, which points up, or y, which points down; columns are x, or y where the slice is sagittal.
        upside_down, mirrored = (flag for other, flag in enumerate(flipped) if other != axis)
        upside_down = upside_down if axis == 0 else not upside_down

        def cut(volume: np.ndarray) -> np.ndarray:
            plane = np.take(volume, index, axis=axis)[window]
            return plane[:: -1 if upside_down else 1, :: -1 if mirrored else 1]

        axis_name = "zyx"[axis]
        return cls(
            name=name,
            where=f"slice {axis_name} = {index} of {foreground.shape[axis]}" if foreground.shape[axis] > 1 else "",
            spacing_mm=(float(rows), float(columns)),
            image=None if image is None else cut(image),
            prediction=cut(prediction),
            reference=cut(reference),
            class_names=class_names,
            raters=tuple(cut(rater) for rater in raters),
            maps={key: cut(value) for key, value in maps.items()},
        )


def choose_slice(
    foreground: np.ndarray, spacing_mm: Sequence[float], *, uncertainty: np.ndarray | None = None
) -> tuple[int, int]:
    """Axis and index of the slice to show.

    Parameters
    ----------
    foreground
        Voxels predicted or annotated by anyone, (z, y, x), bool.
    spacing_mm
        (z, y, x).
    uncertainty
        Map that decides where there is no foreground, (z, y, x).
    """
    coarsest = int(np.argmax(spacing_mm))
    # Nearly isotropic images are shown as readers expect them, in the plane of the first axis.
    axis = coarsest if spacing_mm[coarsest] > 1.5 * spacing_mm[0] else 0
    others = tuple(other for other in range(foreground.ndim) if other != axis)
    weight = foreground.sum(axis=others)
    if not weight.any() and uncertainty is not None:
        weight = uncertainty.sum(axis=others)
    return axis, int(np.argmax(weight)) if np.any(weight) else foreground.shape[axis] // 2


def case_figure(picture: CasePicture) -> Figure:
    """Draw the picture: labels in the first row, the maps that are there in the second."""
    maps = [name for name in MAP_TITLES if name in picture.maps]
    columns = max(2 + (picture.image is not None), len(maps))
    rows = 2 if maps else 1
    height_mm, width_mm = (size * mm for size, mm in zip(picture.prediction.shape, picture.spacing_mm, strict=True))
    handles = _legend_handles(picture, with_outline=bool(maps))
    legend_columns = max(1, min(len(handles), 6))
    # Inches; laid out by hand, for matplotlib's own layout takes as long as the drawing.
    panel_width, gap, row_gap, title_height = 2.7, 0.8, 0.3, 0.65
    legend_height = 0.15 + 0.25 * -(-len(handles) // legend_columns)
    panel_height = float(np.clip(panel_width * height_mm / width_mm, 1.5, 4.5))
    width, height = columns * (panel_width + gap), rows * (panel_height + row_gap) + title_height + legend_height
    figure = Figure(figsize=(width, height))
    title = ", ".join(part for part in (picture.name, picture.where) if part)
    figure.suptitle(title if picture.image is not None else f"{title} (the input image was not found)")
    axes = figure.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw={
            "left": 0.1 / width,
            "right": 1 - (gap - 0.1) / width,
            "bottom": (legend_height + 0.1) / height,
            "top": 1 - title_height / height,
            "wspace": gap / panel_width,
            "hspace": row_gap / panel_height,
        },
    )
    for ax in axes.ravel():
        ax.set_axis_off()

    panels = iter(axes[0])
    if picture.image is not None:
        _show_image(next(panels), picture, "image")
    prediction, reference = next(panels), next(panels)
    _show_image(prediction, picture, "prediction")
    _show_labels(prediction, picture, picture.prediction)
    _show_image(reference, picture, "reference and raters" if picture.raters else "reference")
    _show_labels(reference, picture, picture.reference)
    for index, rater in enumerate(picture.raters):
        _contour(reference, _foreground(picture, rater), **_rater_style(index))

    # One scale for the entropies, which add up: total = aleatoric + epistemic.
    highest_entropy = max((picture.maps[name].max() for name in maps if name != "variance"), default=0.0)
    for ax, name in zip(axes[-1], maps, strict=False):
        top = picture.maps[name].max() if name == "variance" else highest_entropy
        shown = ax.imshow(
            picture.maps[name], cmap="magma", vmin=0, vmax=max(top, 1e-6), aspect=_aspect(picture), interpolation="none"
        )
        ax.set_title(MAP_TITLES[name], fontsize="medium")
        figure.colorbar(shown, cax=ax.inset_axes((1.03, 0.0, 0.05, 1.0)))
        _contour(ax, _foreground(picture, picture.prediction), **OUTLINE_STYLE)
    if handles:
        figure.legend(handles=handles, loc="lower center", ncols=legend_columns, frameon=False)
    return figure


def _show_image(ax: Axes, picture: CasePicture, title: str) -> None:
    if picture.image is None:
        ax.imshow(np.zeros(picture.prediction.shape), cmap="gray", vmin=0, vmax=1, aspect=_aspect(picture))
    else:
        low, high = np.percentile(picture.image, [0.5, 99.5])
        ax.imshow(picture.image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=_aspect(picture))
    ax.set_title(title, fontsize="medium")
    _scale_bar(ax, picture)


def _show_labels(ax: Axes, picture: CasePicture, label: np.ndarray) -> None:
    for value in picture.class_names:
        ax.imshow(
            np.ma.masked_where(label != value, label),
            cmap=ListedColormap([_colour(value)]),
            alpha=0.4,
            aspect=_aspect(picture),
            interpolation="none",
        )


def _legend_handles(picture: CasePicture, *, with_outline: bool) -> list[Artist]:
    shown = (picture.prediction, picture.reference)
    present = [value for value in picture.class_names if any(np.any(label == value) for label in shown)]
    handles: list[Artist] = [
        Patch(color=_colour(value), alpha=0.6, label=picture.class_names[value]) for value in present[: len(OKABE_ITO)]
    ]
    styles = {f"rater {index}": _rater_style(index) for index in range(len(picture.raters))}
    if with_outline:
        styles["outline of the prediction"] = OUTLINE_STYLE
    return handles + [
        Line2D([], [], color=style["colors"], linewidth=style["linewidths"], linestyle=style["linestyles"], label=name)
        for name, style in styles.items()
    ]


def _rater_style(index: int) -> dict[str, Any]:
    return {
        "colors": RATER_COLOURS[index % len(RATER_COLOURS)],
        "linestyles": ("solid", "dashed", "dotted", "dashdot")[index % 4],
        "linewidths": 1.5,
    }


def _foreground(picture: CasePicture, label: np.ndarray) -> np.ndarray:
    return np.isin(label, list(picture.class_names))


def _contour(ax: Axes, mask: np.ndarray, **style: Any) -> None:
    # A mask that fills or misses the slice has no contour, and matplotlib warns about it; 1 voxel has no grid.
    if mask.any() and not mask.all() and min(mask.shape) > 1:
        ax.contour(mask, levels=[0.5], **style)


def _scale_bar(ax: Axes, picture: CasePicture) -> None:
    """A bar of 1, 2 or 5 times a power of ten millimetres, about a quarter of the width."""
    height, width = picture.prediction.shape
    wanted = 0.25 * width * picture.spacing_mm[1]
    power = 10.0 ** np.floor(np.log10(wanted))
    length = max(factor * power for factor in (1, 2, 5) if factor * power <= wanted)
    end, row = 0.95 * width - 0.5, 0.94 * height - 0.5
    ax.plot([end - length / picture.spacing_mm[1], end], [row, row], color="white", linewidth=2.5)
    ax.text(end, row - 0.02 * height, f"{length:g} mm", color="white", ha="right", va="bottom", fontsize="x-small")
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _colour(value: int) -> str:
    return OKABE_ITO[(value - 1) % len(OKABE_ITO)]


def _aspect(picture: CasePicture) -> float:
    return picture.spacing_mm[0] / picture.spacing_mm[1]


def _window(foreground: np.ndarray) -> tuple[slice, slice]:
    """Bounding box of the foreground of a slice with as much again around it, at least 16 pixels."""
    if not foreground.any():
        return slice(None), slice(None)
    window = []
    for axis in range(2):
        filled = np.flatnonzero(foreground.any(axis=1 - axis))
        first, last = int(filled[0]), int(filled[-1]) + 1
        margin = max(last - first, 16)
        window.append(slice(max(first - margin, 0), last + margin))
    return window[0], window[1]
