"""How a model is drawn in every figure: its colour is the aleatoric model, its marker and dashes the epistemic method.

A model looks the same in every figure and on every page, whatever other models are shown with it: the colours of the
package's own are fixed, and one of another name has the colour that its name falls on, moved on only where two names of
a page fall on the same. Lines of the three measures have Okabe and Ito's colours, and dashes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from nnunet_stochastic.epistemic import EPISTEMIC_TITLES
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun
from nnunet_stochastic.evaluation.maps import MEASURES
from nnunet_stochastic.evaluation.model import aleatoric_title, epistemic_title
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

BLUE, VERMILION, GREEN, PINK, ORANGE, SKY, _ = OKABE_ITO
# Okabe and Ito's, and dark ones of Paul Tol's; neither yellow nor white, which are not seen on white.
ALEATORIC_COLOURS = {
    "Softmax": BLUE,
    "SSN": VERMILION,
    "ProbUNet": GREEN,
    "Diffusion": PINK,
    "MoB": SKY,
    "MoBVolume": "#332288",
    "SingleBasis": ORANGE,
    "SingleBasisVolume": "#882255",
    "Diagonal": "#999933",
    "LowRank": "#44AA99",
    "Deterministic": "#000000",
    "TTA": "#777777",
}
OTHER_COLOURS = ("#AA4499", "#117733", "#661100", "#66A61E", "#CC6677", "#B8860B", "#7570B3", "#2F4F4F", "#B22222")
# Marker and dashes, by the place of the method in tables; those behind are for methods of other names.
LINES: tuple[tuple[str, Any], ...] = (
    ("o", "solid"),
    ("^", (0, (2, 1))),
    ("v", (0, (1, 1))),
    ("D", (0, (6, 1.5, 1, 1.5))),
    ("s", (0, (5, 1.5))),
    ("P", (0, (3, 3))),
    ("X", (0, (8, 2))),
    ("*", (0, (1, 3))),
    ("p", (0, (4, 1, 1, 1, 1, 1))),
    ("h", (0, (2, 3))),
    ("d", (0, (9, 1.5, 3, 1.5))),
    ("<", (0, (5, 1, 1, 1))),
    (">", (0, (4, 4))),
)
EPISTEMIC_LINES = {name: LINES[place % len(LINES)] for place, name in enumerate(EPISTEMIC_TITLES)}
OTHER_LINES = tuple(line for line in LINES if line not in EPISTEMIC_LINES.values())
DASHES: tuple[Any, ...] = ("solid", (0, (5, 1.5)), (0, (2, 1)), (0, (6, 1.5, 1, 1.5)))
MEASURE_STYLES: Mapping[str, Mapping[str, Any]] = {
    measure: {"color": colour, "linestyle": dashes, "marker": marker}
    for measure, colour, dashes, marker in zip(MEASURES, (BLUE, VERMILION, GREEN), DASHES, "os^", strict=False)
}


Look = TypeVar("Look")


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
    colours = _looks([result.aleatoric for result in results], ALEATORIC_COLOURS, OTHER_COLOURS)
    lines = _looks([result.epistemic for result in results], EPISTEMIC_LINES, OTHER_LINES)
    return {
        result.label: ModelStyle(lines[result.epistemic][0], colours[result.aleatoric], lines[result.epistemic][1])
        for result in results
    }


def _looks(names: Iterable[str], known: Mapping[str, Look], others: Sequence[Look]) -> dict[str, Look]:
    """What is known of each name, else the one of ``others`` that the name falls on, or the next that is free."""
    found: dict[str, Look] = {}
    for name in sorted(set(names)):
        if name in known:
            found[name] = known[name]
            continue
        first = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        turned = [others[(first + step) % len(others)] for step in range(len(others))]
        found[name] = next((look for look in turned if look not in found.values()), turned[0])
    return found


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
    """Below the panels: a colour per aleatoric model, and marker and dashes per epistemic method.

    Where the figure shows EU, a method of which some model's EU is a stand-in is marked.
    """
    colours = {result.aleatoric: styles[result.label].colour for result in results}
    lines = {result.epistemic: styles[result.label] for result in results}
    handles = [
        Line2D([], [], color=colour, linewidth=5, label=as_label(aleatoric_title(name)))
        for name, colour in colours.items()
    ]
    marks = {result.epistemic: result.mark for result in results if shows_epistemic and result.mark}
    handles += [
        Line2D(
            [],
            [],
            label=as_label(epistemic_title(name)) + marks.get(name, ""),
            **(line.line() | {"color": "0.45", "markersize": 7}),
        )
        for name, line in lines.items()
    ]
    width = sum(4 + len(str(handle.get_label())) for handle in handles) * 0.085
    rows = math.ceil(width / figure.get_figwidth())
    figure.legend(handles=handles, loc="outside lower center", ncols=math.ceil(len(handles) / rows))
