"""The page's tables: the numbers of summary.json, the right measure framed, the best of a column marked."""

import pytest

from nnunet_stochastic.report.page.data import read_results
from nnunet_stochastic.report.page.tables import (
    class_tables,
    decision_table,
    delta_table,
    failed_models,
    left_out,
    measure_table,
    quality_table,
    surface_table,
)
from tests.report.results import write_result
from tests.report.with_intervals import add_intervals


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
    geds = ("GED (1 - IoU) ↓", "GED (1 - IoU), OOD ↓", "GED (1 - Dice) ↓", "GED (1 - Dice), OOD ↓")
    assert table.columns[:9] == ("cases", "Dice ↑", "Dice, OOD ↑", "NLL ↓", "ECE ↓", *geds)
    assert table.columns[9:] == ("volume CRPS (ml) ↓", "EU/AU", "EU/AU, OOD")
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
    assert table.columns[9:11] == ("GED (1 - pooled Dice) ↓", "GED (1 - pooled Dice), OOD ↓")
    assert texts(table, 0)[9] == "0.160"
    assert best(table)[0][5:11] == [False] * 4 + [True] * 2
    for result in results:
        result.summary["convention"] = "mixture_of_bases"
    table = quality_table(results)
    assert (table.columns[1], texts(table, 0)[1]) == ("Dice (%) ↑", "80.00")


def test_collapsed_epistemic_uncertainty_is_warned_of(results):
    results[0].summary["tasks"]["RATIO"]["ID"] = 0.049
    cells = quality_table(results).rows[0][1]
    assert "collapsed" in cells[10].warning
    assert not cells[11].warning


def test_measures_by_task(results):
    table = measure_table(results)
    assert [heading for heading, _ in table.rows[:3]] == [("MoB / SWAG", measure) for measure in ("AU", "EU", "TU")]
    assert texts(table, 1) == ["0.840", "0.350", "0.350", "0.250", "0.250", "0.120", "0.120", "0.900", "0.900"]
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
    both = "over MoB / SWAG: patients (ID: 9 cases of 4); SSN / No EU: cases."
    assert delta_table(results).caption.endswith(both)
    results[0].summary["delta"].clear()
    assert texts(delta_table(results), 0) == ["–"] * 5


SPREAD = {
    "rater_dice": 0.71,
    "rater_ged_iou": 0.4,
    "rater_ged_dice": 0.29,
    "rater_volume_spread": 0.35,
    "sample_volume_spread": 0.22,
    "volume_coverage": 0.85,
}


def test_the_raters_are_a_row_of_reference(results):
    results[0].summary["spread"] = {"ID": SPREAD}
    table = quality_table(results)
    assert table.columns[-2:] == ("volume sd/mean", "volume coverage (0.9)")
    assert texts(table, 0)[-2:] == ["0.220", "0.850"]
    assert texts(table, 1)[-2:] == ["–", "–"]
    assert table.rows[2][0] == ("raters (for reference)",)
    expected = dict.fromkeys(table.columns, "–") | {
        "Dice ↑": "0.710",
        "GED (1 - IoU) ↓": "0.400",
        "GED (1 - Dice) ↓": "0.290",
        "volume sd/mean": "0.350",
    }
    assert dict(zip(table.columns, texts(table, 2), strict=True)) == expected
    assert not any(cell.best for cell in table.rows[2][1])
    assert "Raters: mean Dice of their pairs" in table.caption
    for result in results:
        result.summary["convention"] = "mixture_of_bases"
    assert texts(quality_table(results), 2)[1] == "71.00"


def test_tables_say_in_which_direction_numbers_are_better(results):
    assert measure_table(results).columns == (
        *("OODD ↑", "AMB, ID ↑", "AMB, OOD ↑", "CAL, ID ↓", "CAL, OOD ↓", "failures, ID ↓", "failures, OOD ↓"),
        *("filtered Dice, ID ↑", "filtered Dice, OOD ↑"),
    )
    assert delta_table(results).columns == ("OODD ↑", "AMB, ID ↑", "AMB, OOD ↑", "CAL, ID ↑", "CAL, OOD ↑")


def test_auroc_without_the_images_that_have_no_border(results):
    results[0].summary["tasks"]["OODD"] |= {
        "num_without_border": {"ID": 0, "blur": 3, "noise": 0},
        "auroc_with_border": {"AU": 0.51, "EU": 0.52, "TU": 0.53, "shifts": {}},
    }
    table = measure_table(results)
    assert table.columns[:3] == ("OODD ↑", "OODD, with a border ↑", "AMB, ID ↑")
    assert [texts(table, row)[1] for row in range(4)] == ["0.510", "0.520", "0.530", "–"]
    note = "MoB / SWAG: 3 of 5 of blur without a predicted border, whose score is a sum divided by 1."
    assert table.caption.endswith(note)
    results[0].summary["tasks"]["OODD"]["num_without_border"]["blur"] = 0
    assert measure_table(results).columns[:2] == ("OODD ↑", "AMB, ID ↑")


def test_what_is_equal_in_print_is_equally_good(results):
    for result, dice in zip(results, (0.80041, 0.79962), strict=True):
        result.summary["results"]["raters"]["all classes"]["mean"]["dice"] = dice
    assert [cells[1].text for _, cells in quality_table(results).rows] == ["0.800", "0.800"]
    assert [cells[1].best for _, cells in quality_table(results).rows] == [True, True]


def test_one_model_is_not_the_best(results):
    for table in (quality_table, measure_table, delta_table):
        assert not any(map(any, best(table(results[:1]))))


@pytest.mark.parametrize("degenerate", [False, True])
def test_a_failed_model_is_never_the_best(tmp_path, degenerate):
    """It is the best of all by every number but the Dice."""
    folders = [
        write_result(tmp_path / "a", name="MoB / swag", quality=0.99),
        write_result(tmp_path / "b", name="SSN / none", quality=0.6),
        write_result(tmp_path / "c", name="SSN / swag", quality=0.5),
    ]
    results = read_results(folders)
    tables = [table(results) for table in (quality_table, measure_table, delta_table)]
    assert all(any(cell.best for _, cells in table.rows[: table.span] for cell in cells) for table in tables)
    assert failed_models(results) == []
    if degenerate:
        reason = "all samples are empty or fill the image in 3 of 5 cases"
        results[0].summary["degenerate_samples"] = {
            "ID": dict.fromkeys(["case_0000", "case_0001", "case_0002"], "full")
        }
    else:
        reason = "Dice 0.035 is below half of the best, 0.600"
        results[0].summary["results"]["raters"]["all classes"]["mean"]["dice"] = 0.035
    quality, measures, delta = quality_table(results), measure_table(results), delta_table(results)
    for table in (quality, measures, delta):
        assert not any(cell.best for _, cells in table.rows[: table.span] for cell in cells)
        assert any(cell.best for _, cells in table.rows[table.span :] for cell in cells)
    assert [cells[1].warning for _, cells in quality.rows] == [f"the segmentation has failed: {reason}", "", ""]
    line = f"The segmentation of MoB / SWAG has failed ({reason}), so that it is never the best."
    assert failed_models(results) == [line]
    assert failed_models(results[:1]) == ([line] if degenerate else [])  # by itself it has the best Dice


def test_left_out_names_reason_and_models(results):
    assert left_out(results) == [("GED", "no samples", ["SSN / No EU"])]


def test_challenge_metrics_only_where_they_were_computed(results):
    assert class_tables(results) == []
    results[1].summary["tasks"]["CURVAS"] = {
        "ID": {"nodule": {"soft_dice": 0.4}, "all classes": {"soft_dice": 0.5, "ece": 0.25}},
        "OOD": {"nodule": {"soft_dice": 0.3}, "all classes": {"soft_dice": None}},
    }
    (table,) = class_tables(results)
    assert table.columns == ("soft_dice, ID ↑", "ece, ID ↓", "soft_dice, OOD ↑")
    assert table.rows[0][0] == ("SSN / No EU",)
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
        *(("TTA / No EU", "AU"), ("TTA / No EU", "EU †"), ("TTA / No EU", "TU")),
        *(("SSN / SWAG", "AU"), ("SSN / SWAG", "EU"), ("SSN / SWAG", "TU")),
    ]
    assert texts(delta, 0) == [
        "+0.096 [+0.020, +0.200] †",
        "+0.310 [+0.200, +0.400] †",
        "–",
        "-0.050 [-0.100, +0.000] †",
        "+0.010 [-0.100, +0.100] †",
    ]
    assert not any("†" in text for table in (quality, measures, delta) for text in texts(table, -1))


def test_surfaces(results):
    table = surface_table(results)
    assert table.columns == ("HD95 (mm) ↓", "ASSD (mm) ↓", "NSD ↑", "lesion Dice ↑")
    assert texts(table, 0) == ["5.00", "1.25", "0.900", "0.700"]
    assert texts(table, 1) == ["6.67", "1.67", "0.700", "0.500"]
    assert best(table) == [[True] * 4, [False] * 4]
    assert "within 2 mm" in table.caption
    for result in results:  # 2D images without spacing
        for name in ("hd95_mm", "assd_mm", "nsd"):
            result.summary["results"]["raters"]["all classes"]["mean"][name] = None
    assert surface_table(results).columns == ("lesion Dice ↑",)
    for result in results:
        result.summary["results"]["raters"]["all classes"]["mean"]["lesion_dice"] = None
    assert surface_table(results) is None


def test_decisions(results, tmp_path):
    assert decision_table(results) is None
    judged = read_results([write_result(tmp_path / "judged", name="MoB / none", quality=0.8, decided=True)])
    table = decision_table([*results, *judged])
    assert [heading for heading, _ in table.rows] == [("MoB / No EU", "ID", "nodule"), ("MoB / No EU", "ID", "rim")]
    assert dict(zip(table.columns, texts(table, 0), strict=True)) == {
        **{"volume 90 %": "0.720 [0.40, 0.95]", "width (ml) ↓": "2.5", "outer risk": "0.080", "inner risk": "0.040"},
        **{"Dice error ↓": "0.070", "rank corr. ↑": "0.600", "AURC ↓": "0.150", "AURC, pairwise ↓": "0.210"},
        **{"Dice bound 90 %": "0.720 [0.40, 0.95]", "lesions ↑": "0.500", "lesion ECE ↓": "0.030"},
    }
    assert set(texts(table, 1)) == {"–"}
    assert "at most 10 %" in table.caption


def test_intervals_stand_behind_the_numbers(tmp_path):
    (result,) = read_results([write_result(tmp_path / "a", quality=0.8, decided=True)])
    add_intervals(result.summary)
    quality = quality_table([result])
    cells = dict(zip(quality.columns, texts(quality, 0), strict=True))
    assert cells["Dice ↑"] == "0.800 [0.790, 0.820]"
    assert cells["NLL ↓"] == "0.0250 [0.0150, 0.0450]"
    assert cells["ECE ↓"] == "0.0150 [0.0050, 0.0350]"
    assert cells["GED (1 - Dice) ↓"] == "0.260 [0.250, 0.280]"
    assert cells["cases"] == "5"
    assert "95 % bootstrap interval" in quality.caption
    assert texts(surface_table([result]), 0)[0] == "5.00 [4.99, 5.02]"
    assert texts(measure_table([result]), 1)[:2] == ["0.840 [0.830, 0.860]", "0.350 [0.340, 0.370]"]
    decided = decision_table([result])
    cells = dict(zip(decided.columns, texts(decided, 0), strict=True))
    assert cells["rank corr. ↑"] == "0.600 [0.590, 0.620]"
    assert (cells["AURC ↓"], cells["AURC, pairwise ↓"]) == ("0.150 [0.140, 0.170]", "0.210 [0.200, 0.230]")
    assert (cells["lesions ↑"], cells["lesion ECE ↓"]) == ("0.500 [0.490, 0.520]", "0.030 [0.020, 0.050]")
    assert cells["width (ml) ↓"] == "2.5 [2.49, 2.52]"
    result.summary["intervals"]["tasks"]["CURVAS"] = {"ID": {"all classes": {"soft_dice": [0.5, 0.75]}}}
    result.summary["tasks"]["CURVAS"] = {"ID": {"all classes": {"soft_dice": 0.625, "ece": 0.1}}}
    (challenge,) = class_tables([result])
    assert dict(zip(challenge.columns, texts(challenge, 0), strict=True)) == {
        "soft_dice, ID ↑": "0.625 [0.5, 0.75]",
        "ece, ID ↓": "0.1",
    }
