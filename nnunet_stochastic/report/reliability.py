"""Reliability diagram: accuracy over mean confidence per bin, and how many voxels each bin holds.

Colours are those of Okabe and Ito, which people with colour vision deficiencies can tell apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nnunet_stochastic.conventions import Convention
from nnunet_stochastic.metrics import ReliabilityBins, expected_calibration_error, reliability_curve
from nnunet_stochastic.report.names import as_label

__all__ = ["OKABE_ITO", "reliability_diagrams"]

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")


def reliability_diagrams(
    all_classes: Mapping[str, ReliabilityBins], per_class: Mapping[str, ReliabilityBins], convention: Convention
) -> Figure:
    """Two diagrams side by side: all classes together, and the foreground classes one against the rest.

    Parameters
    ----------
    all_classes
        Bins of the predicted class, or of the foreground if the convention says so, per annotation (``reference``,
        ``raters``).
    per_class
        Bins of p_c per foreground class. With more classes than colours, those with the largest ECE are
        coloured and named, the others grey.
    convention
        What the bins are of, and the norm of the ECE.
    """
    figure = Figure(figsize=(9.0, 6.0), layout="constrained")
    diagrams, histograms = figure.subplots(2, 2, sharex=True, height_ratios=[3, 1])
    of_foreground = convention.foreground_calibration
    whole = "Probability of the foreground" if of_foreground else "Confidence of the predicted class"
    titles = (whole, "Probability of each foreground class")
    for column, (title, curves) in enumerate(zip(titles, (all_classes, per_class), strict=True)):
        _draw(diagrams[column], histograms[column], curves, convention)
        diagrams[column].set_title(title)
    diagrams[0].set_ylabel("fraction of the foreground" if of_foreground else "fraction correct")
    diagrams[1].set_ylabel("fraction of the class")
    histograms[0].set_ylabel("voxels")
    return figure


def _draw(diagram: Axes, histogram: Axes, curves: Mapping[str, ReliabilityBins], convention: Convention) -> None:
    diagram.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", label="perfect")
    errors = {name: expected_calibration_error(bins, norm=convention.ece_norm) for name, bins in curves.items()}
    # ``-1`` puts a class without voxels (NaN) last.
    named = sorted(curves, key=lambda name: errors[name] if errors[name] == errors[name] else -1, reverse=True)
    named = named[: len(OKABE_ITO)]
    for name, bins in curves.items():
        confidence, accuracy, count = reliability_curve(bins)
        if name in named:
            colour = OKABE_ITO[named.index(name)]
            style: dict[str, Any] = {
                "color": colour,
                "marker": "o",
                "markersize": 4,
                "label": f"{as_label(name)}, ECE {errors[name]:.4f}",
            }
        else:
            style = {"color": "0.8", "linewidth": 0.7, "zorder": 1}
        diagram.plot(confidence, accuracy, **style)
        histogram.plot(confidence, count, **(style | {"label": None}))
    diagram.set(xlim=(0, 1), ylim=(0, 1))
    diagram.legend(fontsize="small", frameon=False, loc="upper left")
    histogram.set_yscale("log")
    histogram.set_xlabel("mean confidence in the bin")
