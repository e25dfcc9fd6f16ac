"""The page's tables: the numbers of summary.json, the right measure framed, the best of a column marked."""

import pytest

from nnunet_stochastic.report.page.data import read_results
from nnunet_stochastic.report.page.tables import class_tables, delta_table, left_out, measure_table, quality_table
from tests.report.results import write_result


@pytest.fixture
def results(tmp_path):
    return read_results(
        [
            write_result(tmp_path / "a", name="MoB / swag", quality=0.8),
            write_result(tmp_path / "b", name="SSN / none", quality=0.6, left_out={"GED": "no samples"}),
        ]
    )


def texts(table, row):
    return [cell.text for cell in table.rows[row][1]]


def best(table):
    return [[cell.best for cell in cells] for _, cells in table.rows]


def test_quality(results):
    table = quality_table(results)
    geds = ("GED (1 - IoU)", "GED (1 - IoU), OOD", "GED (1 - Dice)", "GED (1 - Dice), OOD")
    assert table.columns[:9] == ("cases", "Dice", "Dice, OOD", "NLL", "ECE", *geds)
    numbers = ["0.360", "0.360", "0.260", "0.260", "0.11", "0.240", "0.240"]
    assert texts(table, 0) == ["5", "0.800", "0.700", "0.0250", "0.0150", *numbers]
    assert texts(table, 1)[5:9] == ["–"] * 4
    # Higher Dice, lower NLL and ECE; one GED alone is no best; EU/AU has none.
    assert best(table)[0] == [False, True, True, True, True, *[False] * 4, True, False, False]
    assert best(table)[1] == [False] * 9 + [True, False, False]


def test_what_the_convention_says_of_dice_and_ged(results):
    results[1].summary["tasks"]["GED"] = results[0].summary["tasks"]["GED"]
    table = quality_table(results)
    assert best(table)[0][5:9] == [False, False, True, True]
    for result in results:
        result.summary["convention"] = "values"
    table = quality_table(results)
    assert table.columns[9:11] == ("GED (1 - pooled Dice)", "GED (1 - pooled Dice), OOD")
    assert texts(table, 0)[9] == "0.160"
    assert best(table)[0][5:11] == [False] * 4 + [True] * 2
    for result in results:
        result.summary["convention"] = "mixture_of_bases"
    table = quality_table(results)
    assert (table.columns[1], texts(table, 0)[1]) == ("Dice (%)", "80.00")


def test_collapsed_epistemic_uncertainty_is_warned_of(results):
    results[0].summary["tasks"]["RATIO"]["ID"] = 0.049
    cells = quality_table(results).rows[0][1]
    assert "collapsed" in cells[10].warning
    assert not cells[11].warning


def test_measures_by_task(results):
    table = measure_table(results)
    assert [heading for heading, _ in table.rows[:3]] == [("MoB / swag", measure) for measure in ("AU", "EU", "TU")]
    assert texts(table, 1) == ["0.840", "0.350", "0.350", "0.250", "0.250", "0.120", "0.120"]
    framed = [[cell.right for cell in cells[:5]] for _, cells in table.rows[:3]]
    assert framed == [[False, True, True, False, False], [True] + [False] * 4, [False, False, False, True, True]]
    # Only the measure that theory names competes: EU for OODD, TU for CAL.
    assert [cells[0].best for _, cells in table.rows] == [False, True, False, False, False, False]
    assert [cells[3].best for _, cells in table.rows] == [False, False, True, False, False, False]


def test_delta_with_interval(results):
    table = delta_table(results)
    assert texts(table, 0) == [
        "+0.096 [+0.020, +0.200]",
        "+0.310 [+0.200, +0.400]",
        "–",
        "-0.050 [-0.100, +0.000]",
        "+0.010 [-0.100, +0.100]",
    ]
    assert table.caption.endswith("In brackets: 95 % bootstrap interval over cases.")  # of older evaluations
    results[0].summary["bootstrap"] = {"unit": "patient", "sets": {"ID": {"cases": 9, "patients": 4}}}
    assert delta_table(results[:1]).caption.endswith("interval over patients (ID: 9 cases of 4).")
    both = "over MoB / swag: patients (ID: 9 cases of 4); SSN / none: cases."
    assert delta_table(results).caption.endswith(both)
    results[0].summary["delta"].clear()
    assert texts(delta_table(results), 0) == ["–"] * 5


def test_left_out_names_reason_and_models(results):
    assert left_out(results) == [("GED", "no samples", ["SSN / none"])]


def test_challenge_metrics_only_where_they_were_computed(results):
    assert class_tables(results) == []
    results[1].summary["tasks"]["CURVAS"] = {
        "ID": {"nodule": {"soft_dice": 0.4}, "all classes": {"soft_dice": 0.5, "ece": 0.25}},
        "OOD": {"nodule": {"soft_dice": 0.3}, "all classes": {"soft_dice": None}},
    }
    (table,) = class_tables(results)
    assert table.columns == ("soft_dice, ID", "ece, ID", "soft_dice, OOD")
    assert table.rows[0][0] == ("SSN / none",)
    assert texts(table, 0) == ["0.5", "0.25", "–"]


def test_numbers_of_eu_of_one_member_are_marked(tmp_path):
    folders = (
        write_result(tmp_path / "a", name="TTA / none", is_stand_in=True, left_out={"GED": "no samples"}),
        write_result(tmp_path / "b", name="SSN / swag"),
    )
    results = read_results(folders)
    quality, measures, delta = quality_table(results), measure_table(results), delta_table(results)
    assert texts(quality, 0) == [
        *("5", "0.800", "0.700", "0.0250", "0.0150", "–", "–", "–", "–", "0.11", "0.240 †", "0.240 †"),
    ]
    assert [heading for heading, _ in measures.rows] == [
        *(("TTA / none", "AU"), ("TTA / none", "EU †"), ("TTA / none", "TU")),
        *(("SSN / swag", "AU"), ("SSN / swag", "EU"), ("SSN / swag", "TU")),
    ]
    assert texts(delta, 0) == [
        "+0.096 [+0.020, +0.200] †",
        "+0.310 [+0.200, +0.400] †",
        "–",
        "-0.050 [-0.100, +0.000] †",
        "+0.010 [-0.100, +0.100] †",
    ]
    assert not any("†" in text for table in (quality, measures, delta) for text in texts(table, -1))
