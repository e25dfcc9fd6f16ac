"""What figures of the page draw: coordinates are the numbers of the evaluation, and without numbers there is none."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from nnunet_stochastic.report.page import figures
from nnunet_stochastic.report.page.data import read_results
from nnunet_stochastic.report.page.figures.entanglement import right_and_wrong_of
from nnunet_stochastic.report.page.figures.style import log_ticks
from tests.report.results import write_result

COMPARISONS = tuple(draw for _, _, draw in figures.COMPARISONS)
OF_ONE_MODEL = tuple(draw for _, _, draw in figures.OF_ONE_MODEL)


@pytest.fixture
def results(tmp_path):
    return read_results(
        [
            write_result(tmp_path / "a", name="MoB / swag", quality=0.8, num_cases=7),
            write_result(tmp_path / "b", name="SSN / ensemble", quality=0.6, num_cases=7),
        ]
    )


def points(ax):
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in ax.lines if len(line.get_xdata()) == 1]


def curve(ax, label):
    return next(line for line in ax.lines if line.get_label().startswith(label))


def test_every_figure_is_on_the_page():
    files = {path.stem for path in Path(figures.__file__).parent.glob("*.py")} - {"__init__", "style"}
    drawn = [*COMPARISONS, *OF_ONE_MODEL]
    assert {draw.__module__.rpartition(".")[2] for draw in drawn} == files
    assert {draw.__name__ for draw in drawn} == {name for name in figures.__all__ if name.endswith("_figure")}
    titles = [title for title, _, _ in (*figures.COMPARISONS, *figures.OF_ONE_MODEL)]
    assert len(set(titles)) == len(titles) == len(drawn)


def test_right_and_wrong_measure(results):
    assert right_and_wrong_of(results[0], ("OODD",)) == pytest.approx((0.84, 0.6))
    assert right_and_wrong_of(results[0], ("AMB", "ID")) == pytest.approx((0.54, 0.35))
    assert right_and_wrong_of(results[0], ("CAL", "OOD")) == pytest.approx((0.17, 0.2))
    results[0].summary["tasks"]["CAL"]["ID"]["EU"] = None
    assert np.isnan(right_and_wrong_of(results[0], ("CAL", "ID"))).all()


def test_the_better_wrong_measure_is_that_of_each_shift(results):
    summary = results[0].summary
    first, *others = results[0].shifts
    assert others
    summary["tasks"]["CAL"]["shifts"] = {name: {"AU": 0.3, "EU": 0.1, "TU": 0.2} for name in others} | {
        first: {"AU": 0.1, "EU": 0.3, "TU": 0.2}
    }
    assert right_and_wrong_of(results[0], ("CAL", "OOD")) == pytest.approx((0.2, 0.1))


def test_entanglement_has_a_panel_per_task_and_a_point_per_model(results):
    figure = figures.entanglement_figure(results, figures.model_styles(results))
    assert [ax.get_title().split(":")[0] for ax in figure.axes] == [
        "OODD",
        "AMB, ID",
        "AMB, OOD",
        "CAL, ID",
        "CAL, OOD",
    ]
    np.testing.assert_allclose(points(figure.axes[0]), [(0.6, 0.84), (0.6, 0.78)])
    np.testing.assert_allclose(points(figure.axes[3]), [(0.2, 0.17), (0.2, 0.19)])


def test_models_differ_by_marker_or_colour(results):
    first, second = figures.model_styles(results).values()
    assert first.marker != second.marker
    assert first.colour != second.colour


def test_aggregations_and_overlap(results):
    styles = figures.model_styles(results)
    panels = figures.aggregation_figure(results, styles).axes
    assert [ax.get_title() for ax in panels] == ["mean", "patch", "threshold", "area", "border"]
    np.testing.assert_allclose(points(panels[1]), [(0.57, 0.81), (0.57, 0.75), (0.57, 0.78)])  # the last is their mean
    np.testing.assert_allclose(points(figures.overlap_figure(results, styles).axes[0]), [(0.8, 0.26), (0.6, 0.32)])


def test_ratio_draws_id_and_ood(results):
    scatter, bars = figures.ratio_figure(results, figures.model_styles(results)).axes
    of_id = results[0].images.query("set == 'ID'")
    assert points(scatter)[0] == pytest.approx((of_id["AU"].mean(), of_id["EU"].mean()))
    assert [x for x, _ in points(bars)] == pytest.approx([0.24, 0.24, 0.18, 0.18])


@pytest.mark.parametrize(
    ("limits", "ticks"), [((0.03, 1.5), [0.05, 0.1, 0.2, 0.5, 1]), ((5e-4, 1.5), [0.001, 0.01, 0.1, 1])]
)
def test_ticks_of_a_logarithmic_axis_get_sparse_where_it_is_long(limits, ticks):
    ax = Figure().subplots()
    ax.set(xscale="log", xlim=limits)
    log_ticks(ax.xaxis)
    shown = [tick for tick in ax.get_xticks() if limits[0] <= tick <= limits[1]]
    np.testing.assert_allclose(shown, ticks)


def test_reliability_pools_the_shifts(results):
    figure = figures.reliability_figure(results, figures.model_styles(results))
    expected = [results[0].reliability[name]["raters"]["nodule"] for name in ("blur", "noise")]
    count = sum(bins.count for bins in expected)
    histogram = figure.axes[7].lines[0]
    np.testing.assert_array_equal(histogram.get_ydata(), count)
    diagram = figure.axes[3].lines[0]
    np.testing.assert_allclose(diagram.get_ydata(), sum(bins.correct_sum for bins in expected) / count)


def test_area_below_the_roc_curve_is_the_probability_that_a_shifted_image_scores_higher(results):
    figure = figures.detection_figure(results[0])
    epistemic = curve(figure.axes[4], "blur")
    area = np.trapezoid(epistemic.get_ydata(), epistemic.get_xdata())
    inside, outside = (results[0].image_scores(name, "EU").to_numpy() for name in ("ID", "blur"))
    assert area == pytest.approx(np.mean(outside[:, None] > inside[None, :]))
    assert 0.5 < area < 1


def test_risk_coverage_ends_at_the_mean_risk_and_the_oracle_is_lowest(results):
    ax = figures.risk_coverage_figure(results[0]).axes[0]
    risk = results[0].images.query("set == 'ID'")["risk"]
    total, oracle = (curve(ax, label).get_ydata() for label in ("TU", "oracle"))
    assert total[-1] == pytest.approx(risk.mean())
    assert oracle[0] == pytest.approx(risk.min())
    assert np.all(oracle <= total + 1e-12)


def test_confidence_says_the_error(results):
    ax = figures.confidence_figure(results[0]).axes[0]
    assert curve(ax, "TU").get_label() == "TU, ACE 0.170"


def test_without_numbers_there_is_no_figure(results):
    for result in results:
        result.summary["tasks"].clear()
        result.reliability.clear()
        result.confidence.clear()
    styles = figures.model_styles(results)
    assert [draw(results, styles) for draw in COMPARISONS] == [None] * len(COMPARISONS)
    assert [draw(results[0]) for draw in OF_ONE_MODEL] == [None] * len(OF_ONE_MODEL)


def legend_texts(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_the_eu_of_one_member_is_marked(tmp_path):
    one, several = results = read_results(
        [
            write_result(tmp_path / "a", name="SSN / none", is_stand_in=True, num_cases=7),
            write_result(tmp_path / "b", name="SSN / swag", num_cases=7),
        ]
    )
    styles = figures.model_styles(results)
    of_epistemic = (figures.entanglement_figure, figures.ratio_figure, figures.aggregation_figure)
    for draw in COMPARISONS:
        assert legend_texts(draw(results, styles)) == ["SSN", "none †" if draw in of_epistemic else "none", "swag"]
    _, bars = figures.ratio_figure(results, styles).axes
    assert [text.get_text() for text in bars.get_yticklabels()] == ["SSN / none †", "SSN / swag"]
    for result, name in ((one, "EU †"), (several, "EU")):
        assert [ax.get_title() for ax in figures.detection_figure(result).axes[:3]] == ["AU", name, "TU"]
        for draw in (figures.risk_coverage_figure, figures.confidence_figure):
            labels = [line.get_label().split(",")[0] for line in draw(result).axes[0].lines]
            assert labels[:3] == ["AU", name, "TU"]
