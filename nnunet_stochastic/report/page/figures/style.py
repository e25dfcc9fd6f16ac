"""How a model is drawn in every figure: its marker is the aleatoric model, its colour the epistemic method.

Colours are those of Okabe and Ito; nothing is told by colour alone, for lines of the three measures have dashes and
points of different models markers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from nnunet_stochastic.epistemic import EPISTEMIC_METHODS
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun
from nnunet_stochastic.evaluation.maps import MEASURES
from nnunet_stochastic.report.names import as_label
from nnunet_stochastic.report.reliability import OKABE_ITO

__all__ = [
    "MEASURE_STYLES",
    "ModelStyle",
    "add_model_legend",
    "draw_point",
    "figure_style",
    "grid",
    "log_ticks",
    "model_styles",
]

BLUE, VERMILION, GREEN, _, _, SKY, _ = OKABE_ITO  # the yellow is too light for lines on white
EPISTEMIC_COLOURS = {method.name: method.colour for method in EPISTEMIC_METHODS.values()}
OTHER_COLOURS = (VERMILION, SKY, "0.5")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h")
DASHES: tuple[Any, ...] = ("solid", (0, (5, 1.5)), (0, (2, 1)), (0, (6, 1.5, 1, 1.5)))
MEASURE_STYLES: Mapping[str, Mapping[str, Any]] = {
    measure: {"color": colour, "linestyle": dashes, "marker": marker}
    for measure, colour, dashes, marker in zip(MEASURES, (BLUE, VERMILION, GREEN), DASHES, "os^", strict=False)
}


@dataclass(frozen=True)
class ModelStyle:
    """Marker, colour and dashes of a model."""

    marker: str
    colour: str
    dashes: Any

    def line(self) -> dict[str, Any]:
        """Keywords of ``Axes.plot``."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "linestyle": self.dashes,
            "markersize": 4.5,
            "linewidth": 1.3,
        }


def model_styles(results: Sequence[EvaluatedRun]) -> dict[str, ModelStyle]:
    """A style under each result's label; runs of the same combination look the same."""
    aleatoric = list(dict.fromkeys(result.aleatoric for result in results))
    others = [name for name in dict.fromkeys(result.epistemic for result in results) if name not in EPISTEMIC_COLOURS]
    colours = {name: OTHER_COLOURS[index % len(OTHER_COLOURS)] for index, name in enumerate(others)}
    colours = EPISTEMIC_COLOURS | colours
    return {
        result.label: ModelStyle(
            MARKERS[aleatoric.index(result.aleatoric) % len(MARKERS)],
            colours[result.epistemic],
            DASHES[aleatoric.index(result.aleatoric) % len(DASHES)],
        )
        for result in results
    }


@contextmanager
def figure_style() -> Iterator[None]:
    """Matplotlib's settings of the page; text stays text."""
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "nnunet_stochastic",  # the same results make the same page
        "font.size": 9.5,
        "axes.titlesize": "medium",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "0.9",
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "legend.frameon": False,
        "legend.fontsize": "small",
    }
    with style.context(["default", settings]):
        yield


def grid(num_panels: int, *, columns: int = 3, panel: tuple[float, float] = (3.3, 3.1)) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels (inches), filled row by row; the rest of the last row is left empty."""
    columns = min(columns, num_panels)
    rows = math.ceil(num_panels / columns)
    figure = Figure(figsize=(columns * panel[0], rows * panel[1]), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in axes[num_panels:]:
        ax.remove()
    return figure, axes[:num_panels]


def log_ticks(axis: Axis) -> None:
    """Plain numbers on a logarithmic axis with limits: at powers of ten, and if it is short at 2 and 5 times them."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high <= 100 * low else (1,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def draw_point(ax: Axes, x: float, y: float, style: ModelStyle, **changes: Any) -> None:
    """A model as a point."""
    keywords: dict[str, Any] = {
        "markersize": 7.5,
        "markeredgecolor": "white",
        "markeredgewidth": 0.6,
        "alpha": 0.95,
    } | changes
    ax.plot([x], [y], color=style.colour, marker=style.marker, linestyle="none", **keywords)


def add_model_legend(
    figure: Figure, results: Sequence[EvaluatedRun], styles: Mapping[str, ModelStyle], *, shows_epistemic: bool = False
) -> None:
    """Below the panels: a marker per aleatoric model and a colour per epistemic method.

    Where the figure shows EU, a method of which some model's EU is a stand-in is marked.
    """
    markers = {result.aleatoric: styles[result.label].marker for result in results}
    colours = {result.epistemic: styles[result.label].colour for result in results}
    handles = [
        Line2D([], [], color="0.45", marker=marker, linestyle="none", markersize=7, label=as_label(name))
        for name, marker in markers.items()
    ]
    marks = {result.epistemic: result.mark for result in results if shows_epistemic and result.mark}
    handles += [
        Line2D([], [], color=colour, linewidth=5, label=as_label(name) + marks.get(name, ""))
        for name, colour in colours.items()
    ]
    width = sum(4 + len(str(handle.get_label())) for handle in handles) * 0.085
    rows = math.ceil(width / figure.get_figwidth())
    figure.legend(handles=handles, loc="outside lower center", ncols=math.ceil(len(handles) / rows))
