"""Evaluation folders are read as they were written, and what is wrong with one is said."""

import json
import math

import pandas as pd
import pytest

from nnunet_stochastic.evaluation.evaluated_run import number
from nnunet_stochastic.report.page.data import read_result, read_results
from tests.report.results import write_result


def change(path, **entries):
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_numbers_are_those_of_the_files(tmp_path):
    result = read_result(write_result(tmp_path, quality=0.8, shifts=("blur", "noise")))
    assert (result.label, result.dataset, result.seed) == ("MoBVolume / SWAG", "Dataset501_Nodules", "0")
    assert result.shifts == ["blur", "noise"]
    assert result.task("OODD", "EU") == pytest.approx(0.84)
    assert result.task("FD", "shifts", "blur", "AU", "aurc") == pytest.approx(0.12)
    assert result.quality("dice") == pytest.approx(0.8)
    assert result.quality("ece", of_dataset=True) == pytest.approx(0.015)
    assert result.confidence["blur"]["TU"].count.size == 20
    table = pd.read_csv(tmp_path / "evaluation" / "scores.csv")
    expected = table[(table["set"] == "noise") & (table["measure"] == "EU")].set_index("case")["border"]
    pd.testing.assert_series_equal(result.image_scores("noise", "EU"), expected, check_names=False)


def test_what_is_null_or_absent_is_nan():
    tree = {"a": {"b": None, "c": 2}}
    assert math.isnan(number(tree, "a", "b"))
    assert math.isnan(number(tree, "a", "d"))
    assert math.isnan(number(tree, "a", "c", "e"))
    assert number(tree, "a", "c") == 2.0
    with pytest.raises(ValueError, match="must have a number or null at a, got"):
        number(tree, "a")


def test_names_of_cases_stay_text(tmp_path):
    result = read_result(write_result(tmp_path, case_names=("001", "NA", "1e3")))
    assert list(result.images["case"][:3]) == ["001", "NA", "1e3"]


def test_an_empty_number_is_nan(tmp_path):
    folder = write_result(tmp_path)
    table = pd.read_csv(folder / "images.csv")
    table.loc[0, "ged_dice"] = float("nan")
    table.to_csv(folder / "images.csv", index=False)
    assert math.isnan(read_result(folder).images["ged_dice"][0])


def test_labels_tell_runs_apart(tmp_path):
    folders = [
        write_result(tmp_path / "a", name="SSN / swag", seed=1),
        write_result(tmp_path / "b", name="SSN / swag", seed=2),
        write_result(tmp_path / "c", name="Softmax / dropout"),
        write_result(tmp_path / "d", name="SSN / none", seed=3, dataset="Dataset001_A"),
        write_result(tmp_path / "e", name="SSN / none", seed=3, dataset="Dataset002_B"),
    ]
    assert [result.label for result in read_results(folders)] == [
        "SSN / SWAG, seed 1",
        "SSN / SWAG, seed 2",
        "Softmax / Dropout",
        "SSN / No EU, seed 3, Dataset001_A",
        "SSN / No EU, seed 3, Dataset002_B",
    ]


def test_a_table_of_runs_names_models(tmp_path):
    folders = [write_result(tmp_path / name, name="SSNTiny / none", seed=0) for name in "abc"]
    named = {"aleatoric": "SSN", "dataset": "LIDC"}
    ensemble = {"epistemic": "ensemble", **named}
    overrides = {
        folders[0].resolve(): [{"seed": "7", **named}],
        folders[1].resolve(): [{"seed": "0", **ensemble}, {"seed": "1", **ensemble}],
        tmp_path / "not read": [named],
    }
    runs = read_results(folders, overrides)
    assert [(run.label, run.dataset, run.seed) for run in runs] == [
        ("SSN / No EU", "LIDC", "7"),
        ("SSN / Folds (splits unknown)", "LIDC", "0"),
        ("SSNTiny / No EU", "Dataset501_Nodules", "0"),
    ]
    assert [(run.aleatoric, run.epistemic) for run in runs[:2]] == [("SSN", "none"), ("SSN", "ensemble")]


def test_errors_name_the_folder_and_what_to_do(tmp_path):
    folder = write_result(tmp_path / "run")
    with pytest.raises(ValueError, match="given twice"):
        read_results([folder, folder / ".." / "evaluation"])
    with pytest.raises(ValueError, match="no evaluation folder"):
        read_results([])
    (folder / "curves.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"evaluation lacks curves\.json.*nnunet_stochastic_evaluate"):
        read_result(folder)


def test_older_and_broken_files_are_refused(tmp_path):
    folder = write_result(tmp_path / "run")
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({"results": summary["results"]}))
    with pytest.raises(ValueError, match=r"lacks model, convention, conventions, num_cases, folders.*older version"):
        read_result(folder)
    summary["tasks"]["GED"] = {"ID": 0.3, "OOD": None, "shifts": {}, "distance": "iou"}
    (folder / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(ValueError, match="is of an older version, whose GED does not name its distance"):
        read_result(folder)
    (folder / "summary.json").write_text('{"results": ')
    with pytest.raises(ValueError, match=r"summary\.json: not valid JSON"):
        read_result(folder)


def test_a_table_without_its_columns_is_refused(tmp_path):
    folder = write_result(tmp_path / "run")
    (folder / "images.csv").write_text("case,dice\na,1\n")
    with pytest.raises(ValueError, match=r"images\.csv: the header lacks set, got"):
        read_result(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"images\.csv: the header lacks set, case, got 'nothing'; run nnunet_stochastic_evaluate again"),
        ("set,case,risk\nID,a,low\n", r"images\.csv: line 2: risk must be a finite number or nothing, got 'low'; run "),
    ],
)
def test_a_damaged_table_is_named(tmp_path, text, message):
    folder = write_result(tmp_path / "run")
    (folder / "images.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_result(folder)
