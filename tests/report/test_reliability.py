"""The reliability diagram draws the bins that the errors are computed from."""

import numpy as np

from nnunet_stochastic.conventions import PRESETS
from nnunet_stochastic.metrics import expected_calibration_error, reliability_bins, reliability_curve
from nnunet_stochastic.report import OKABE_ITO, reliability_diagrams


def make_bins(seed, size=500):
    rng = np.random.default_rng(seed)
    confidence = rng.random(size)
    return reliability_bins(confidence, rng.random(size) < confidence**2)


def test_curves_hold_the_bins(tmp_path):
    bins = {"reference": make_bins(0), "raters": make_bins(1)}
    figure = reliability_diagrams(bins, {"nodule": make_bins(2)}, PRESETS["entanglement"])
    lines = {line.get_label().split(",")[0]: line for line in figure.axes[0].lines}
    for name in bins:
        curve = reliability_curve(bins[name])
        np.testing.assert_array_equal(lines[name].get_xdata(), curve.confidence)
        np.testing.assert_array_equal(lines[name].get_ydata(), curve.accuracy)
    figure.savefig(tmp_path / "reliability.png")
    assert (tmp_path / "reliability.png").stat().st_size > 1000


def test_error_and_title_are_those_of_the_convention():
    bins = make_bins(0)
    figure = reliability_diagrams({"reference": bins}, {"nodule": bins}, PRESETS["mixture_of_bases"])
    assert figure.axes[0].get_title() == "Probability of the foreground"
    expected = f"reference, ECE {expected_calibration_error(bins, norm='l2'):.4f}"
    assert figure.axes[0].lines[1].get_label() == expected


def test_many_classes_are_grey_but_for_the_worst():
    bins = {f"class {index}": make_bins(index) for index in range(12)}
    certain, wrong = np.ones(10), np.zeros(10, dtype=bool)
    bins["worst"] = reliability_bins(certain, wrong)
    bins["absent"] = reliability_bins(certain[:0], wrong[:0])
    diagram = reliability_diagrams({"reference": make_bins(0)}, bins, PRESETS["entanglement"]).axes[1]
    names = [text.get_text() for text in diagram.get_legend().get_texts()]
    assert len(names) == len(OKABE_ITO) + 1
    assert "worst, ECE 1.0000" in names
    assert not any(name.startswith("absent") for name in names)
    assert len(diagram.lines) == len(bins) + 1
