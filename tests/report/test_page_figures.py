"""What figures of the page draw: coordinates are the numbers of the evaluation, and without numbers there is none."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from nnunet_stochastic.epistemic import EPISTEMIC_METHODS
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun
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


def test_a_model_has_the_colour_of_its_aleatoric_part_and_the_marker_of_its_method(results):
    first, second = figures.model_styles(results).values()
    assert first.marker != second.marker
    assert first.colour != second.colour
    assert first.dashes != second.dashes


def looks(*names):
    """Styles of models by name, as on a page with these models."""
    results = [EvaluatedRun(Path(), "D", "", *name.split(" / "), summary={"model": {}}, label=name) for name in names]
    return figures.model_styles(results)


def test_a_model_looks_the_same_whatever_else_is_shown():
    names = [f"{aleatoric} / {method}" for aleatoric in ("SSN", "MoB", "Mine") for method in EPISTEMIC_METHODS]
    styles = looks(*names)
    assert all(looks(name, "Softmax / none")[name] == styles[name] for name in names)
    assert looks(*names[::-1]) == styles
    for part, attributes in ((0, ("colour",)), (1, ("marker", "dashes"))):
        for attribute in attributes:
            values = {(name.split(" / ")[part], getattr(style, attribute)) for name, style in styles.items()}
            assert len(values) == len({value for _, value in values}) == len({name for name, _ in values})


def test_models_of_other_names_differ_too():
    names = [f"Mine{index} / none" for index in range(9)]
    assert len({style.colour for style in looks(*names, "SSN / none").values()}) == 10
    own = {f"MoB / theirs{index}": index for index in range(4)}
    assert len({style.marker for style in looks(*own, "MoB / swag").values()}) == 5


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


def heights(ax):
    """Heights of the histograms of a panel, by label."""
    handles, labels = ax.get_legend_handles_labels()
    return dict(zip(labels, handles, strict=True))


def test_histograms_have_two_sets_on_common_bins(results):
    figure = figures.detection_figure(results[0])
    panels = [figure.axes[0], figure.axes[6]]  # AU, blur and noise
    assert [ax.get_legend_handles_labels()[1] for ax in panels] == [["ID", "blur"], ["ID", "noise"]]
    assert len({ax.get_xlim() for ax in panels}) == len({ax.get_ylim() for ax in panels}) == 1
    assert panels[0].get_xscale() == "linear"
    bars = panels[1].containers[0]
    assert sum(bar.get_height() for bar in bars) == pytest.approx(1)
    edges = [bar.get_x() for bar in bars] + [bars[-1].get_x() + bars[-1].get_width()]
    pooled = np.concatenate([results[0].image_scores(name, "AU") for name in results[0].sets])
    assert (edges[0], edges[-1]) == pytest.approx((pooled.min(), pooled.max()))
    steps = {round(x, 12) for x in panels[1].patches[-1].get_xy()[:, 0]}
    assert steps == {round(edge, 12) for edge in edges}


@pytest.mark.parametrize(("smallest", "scale"), [(0.3, "log"), (0.0, "symlog"), (1500.0, "linear")])
def test_scores_that_differ_by_orders_of_magnitude_are_on_a_logarithmic_axis(results, smallest, scale):
    """Two images of blur have no predicted border: their score is a sum."""
    table = results[0].scores
    of_border = table["border"].to_numpy().copy()
    of_border[:] = np.linspace(0.25, 0.4, len(table)) if smallest < 1 else smallest
    of_border[0] = smallest
    of_border[(table["set"] == "blur") & table["case"].isin(["case_0001", "case_0002"])] = 2000
    table["border"] = of_border
    figure = figures.detection_figure(results[0])
    ax = figure.axes[0]
    assert ax.get_xscale() == scale
    bars = ax.containers[0]
    filled = [bar for bar in bars if bar.get_height() > 0]
    assert sum(bar.get_height() for bar in bars) == pytest.approx(1)
    assert figure.axes[6].get_xlabel() == "image score (border" + (")" if scale == "linear" else ", logarithmic)")
    if scale != "linear":
        width = np.log(2000 / 0.25) / len(bars)
        assert all(bar.get_x() < 0.41 for bar in filled)
        assert [np.log((bar.get_x() + bar.get_width()) / bar.get_x()) for bar in bars[1:]] == pytest.approx(
            [width] * (len(bars) - 1), rel=0.2
        )
    if scale == "symlog":
        assert filled[0].get_x() == pytest.approx(0, abs=1e-12)


def test_auroc_without_the_images_that_have_no_border_stands_beside_it(results):
    results[0].summary["tasks"]["OODD"] |= {
        "num_without_border": {"ID": 0, "blur": 2, "noise": 0},
        "auroc_with_border": {"shifts": {name: {"AU": 0.5, "EU": 0.55, "TU": 0.6} for name in ("blur", "noise")}},
    }
    curves = figures.detection_figure(results[0]).axes[4]
    assert [line.get_label() for line in curves.lines[:2]] == [
        "blur, AUROC 0.840 (0.550 with a border)",
        "noise, AUROC 0.840",
    ]


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
    of_epistemic = (
        *(figures.entanglement_figure, figures.ratio_figure, figures.aggregation_figure),
        figures.filtering_figure,
    )
    for draw in COMPARISONS:
        marked = "No EU †" if draw in of_epistemic else "No EU"
        assert legend_texts(draw(results, styles)) == ["SSN", marked, "SWAG"]
    _, bars = figures.ratio_figure(results, styles).axes
    assert [text.get_text() for text in bars.get_yticklabels()] == ["SSN / No EU †", "SSN / SWAG"]
    for result, name in ((one, "EU †"), (several, "EU")):
        assert [ax.get_title() for ax in figures.detection_figure(result).axes[:3]] == ["AU", name, "TU"]
        for draw in (figures.risk_coverage_figure, figures.confidence_figure):
            labels = [line.get_label().split(",")[0] for line in draw(result).axes[0].lines]
            assert labels[:3] == ["AU", name, "TU"]


@pytest.fixture
def judged(tmp_path):
    return read_results([write_result(tmp_path / "judged", quality=0.8, num_cases=4, decided=True)])[0]


def test_without_decisions_there_is_no_figure_of_them(results):
    for draw in (figures.coverage_figure, figures.predicted_dice_figure, figures.lesion_detection_figure):
        assert draw(results[0]) is None


def test_coverage_is_drawn_at_its_level_with_its_interval(judged):
    figure = figures.coverage_figure(judged)
    (ax,) = figure.axes
    volume, bound = ax.containers
    for container, side in ((volume, -1), (bound, 1)):
        level, coverage = container.lines[0].get_data()
        np.testing.assert_allclose(level, np.array([0.8, 0.9, 0.95]) + side * 0.005)
        np.testing.assert_allclose(coverage, [0.64, 0.72, 0.76])
        ends = [segment[:, 1] for segment in container.lines[2][0].get_segments()]
        np.testing.assert_allclose(ends, [[0.4, 0.95]] * 3)
    assert [container.get_label() for container in ax.containers] == ["volume interval", "lower bound of the Dice"]


def test_cases_below_their_lower_bound_are_told_apart(judged):
    (ax,) = figures.predicted_dice_figure(judged).axes
    above, below = curve(ax, "at least its lower bound: 2"), curve(ax, "below it: 2")
    np.testing.assert_allclose(above.get_ydata(), [0.6, 0.7])
    np.testing.assert_allclose(below.get_ydata(), [0.4, 0.5])
    np.testing.assert_allclose(below.get_xdata(), [0.7, 0.7])


def test_lesions_found_against_false_ones(judged):
    (ax,) = figures.lesion_detection_figure(judged).axes
    found = curve(ax, "nodule")
    np.testing.assert_allclose(found.get_xdata(), [0, 0.25, 1.5])
    np.testing.assert_allclose(found.get_ydata(), [0, 0.5, 0.75])
    assert points(ax) == [(0.75, 0.625)]  # of the segmentation alone
    assert ax.get_legend_handles_labels()[1] == ["nodule"]


def test_curves_of_the_filtering(results):
    """A row of panels per measure, a panel per curve, a line per model: what summary.json has."""
    styles = figures.model_styles(results)
    axes = figures.filtering_figure(results, styles).axes
    assert [ax.get_ylabel() for ax in axes[::3]] == ["AU", "EU", "TU"]
    for line in (line for ax in axes for line in ax.lines):
        np.testing.assert_array_equal(line.get_xdata(), [0, 0.5, 1])
    np.testing.assert_allclose([line.get_ydata() for line in axes[0].lines], [[1, 0.9, 0.8], [1, 0.9, 0.6]])
    np.testing.assert_allclose(axes[7].lines[1].get_ydata(), [0.9, 0.2, 0])
    for result in results:
        result.summary["tasks"]["FILTER"]["curves"]["ID"].pop("AU")  # as of a network that has TU alone
    assert [ax.get_ylabel() for ax in figures.filtering_figure(results, styles).axes[::3]] == ["EU", "TU"]
    for result in results:
        result.summary["tasks"]["FILTER"].pop("curves")  # as of an older version
    assert figures.filtering_figure(results, styles) is None
