"""Decisions judged by the evaluate command: equal to the judgement of the arrays, its table, and refusals."""

import csv
import json
import re

import pytest

from nnunet_stochastic.commands import apply_calibration, evaluate
from nnunet_stochastic.decisions.decisions import Decisions
from nnunet_stochastic.decisions.judgement import judge
from nnunet_stochastic.evaluation.folder import evaluate_folder
from nnunet_stochastic.evaluation.records import to_json
from nnunet_stochastic.evaluation.summary_file import SummaryFile
from nnunet_stochastic.io.text import read_json
from tests.commands.test_decisions import (
    assert_close,
    change_record,
    determine,
    make_folders,
    statistics,
    write_plans,
    write_record,
)

NEW = ["a", "b", "c", "d"]
PATIENTS = {"a": "one", "b": "one", "c": "two", "d": "three"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Validation and new cases, and decisions about the new ones in the folder `decided`."""
    made = make_folders(tmp_path_factory.mktemp("prepared"), new=NEW, patients=PATIENTS)
    assert determine(made) == 0
    assert apply(made) == 0
    return made


@pytest.fixture
def folders(prepared, tmp_path):
    """The same folders, to be changed."""
    return prepared.copy(tmp_path / "made")


def apply(made):
    options = ["-i", made.root / "new" / "pred", "-calibration", made.root / "val" / "pred" / "calibration.json"]
    options += ["-o", made.root / "decided", "--method", "decisions", "-np", "1", "--disable_progress_bar"]
    return apply_calibration.main([str(option) for option in options])


def run(made, *options, name="new", raters=True, processes=1):
    common = ["-np", str(processes), "--no_pictures", "--disable_progress_bar", "-o", str(made.root / "out")]
    given = [*made.options(name, raters=raters), "-decisions", str(made.root / "decided"), *common]
    return evaluate.main([*given, *map(str, options)])


def expected(made, patients=None, *, raters=True):
    """The judgement of the arrays of the new cases."""
    content = json.loads((made.root / "decided" / "decisions.json").read_text())
    of_new = statistics(made, patients or {}, raters=raters, of="new")
    return to_json(judge(Decisions.model_validate(content["decisions"]), of_new))


QUALITY = {"mae", "rank_correlation", "aurc"}


def without_intervals(entry):
    """Without what the bootstrap of an evaluation adds."""
    if not isinstance(entry, dict):
        return [without_intervals(each) for each in entry] if isinstance(entry, list) else entry
    return {key: without_intervals(value) for key, value in entry.items() if key != "intervals"}


@pytest.mark.parametrize("raters", [True, False])
def test_judgement_is_that_of_the_arrays(folders, capsys, raters):
    assert run(folders, "--groups", folders.root / "patients.csv", raters=raters) == 0
    summary = read_json(folders.root / "out" / "summary.json", SummaryFile)
    entry = summary["tasks"]["DECISIONS"]
    judged = expected(folders, PATIENTS, raters=raters)
    assert_close(without_intervals(entry["ID"]), judged)
    assert set(entry["ID"]["structures"]["nodule"]["dice"]["intervals"]) == QUALITY | {"mean_dice"}
    assert (judged["num_cases"], judged["num_patients"], judged["num_shared_cases"]) == (4, 3, 0)
    assert (entry["unit"], entry["shifts"], entry["alpha"]) == ("patients", {}, 0.1)
    assert (entry["num_validation_cases"], entry["num_validation_patients"]) == (12, 12)
    assert (judged["structures"]["nodule"]["raters"] is None) != raters
    reason = "no case has volumes of several annotations"
    assert summary["left_out"].get("DECISIONS/raters") == (None if raters else reason)
    printed = capsys.readouterr()
    for title in ("Coverage", *["Spread of volumes"] * raters, "Risk of masks", "Predicted Dice", "Lesions"):
        assert re.search(rf"^ +{title} *$", printed.out, re.MULTILINE)
    assert "decisions.csv" in printed.out
    assert "validation cases" not in printed.err


def test_from_python(folders):
    root = folders.root
    assert run(folders, "--groups", root / "patients.csv") == 0
    evaluation = evaluate_folder(
        root / "new" / "pred",
        root / "new" / "gt",
        raters=root / "new" / "raters",
        decisions=root / "decided",
        groups=root / "patients.csv",
        record_folder=root / "records",
    )
    summary = json.loads((root / "out" / "summary.json").read_text())
    assert summary["tasks"]["DECISIONS"] == evaluation.summary["tasks"]["DECISIONS"]
    assert summary["bootstrap"] == evaluation.summary["bootstrap"]


def test_the_table_of_cases(folders):
    assert run(folders) == 0
    with (folders.root / "out" / "decisions.csv").open() as stream:
        table = list(csv.DictReader(stream))
    judged = expected(folders)["structures"]["nodule"]
    assert [line["case"] for line in table] == NEW
    for line, case in zip(table, judged["cases"], strict=True):
        assert (line["set"], line["structure"], line["patient"]) == ("ID", "nodule", line["case"])
        assert float(line["dice"]) == pytest.approx(case["dice"])
        assert float(line["share_inside_80"]) == pytest.approx(case["share_inside"]["0.8"])
        assert [float(line["volume_from_ml_80"]), float(line["volume_to_ml_80"])] == pytest.approx(
            case["intervals_ml"]["0.8"], rel=1e-5
        )
        assert (line["volume_from_ml_95"], line["volume_to_ml_95"]) == ("0.0", "inf")  # of 12 patients
        assert float(line["reference_max_ml"]) == pytest.approx(max(case["reference_ml"]))
        assert float(line["outer_loss_0.2"]) == pytest.approx(case["outer_loss"]["0.2"])
    with (folders.root / "decided" / "structures.csv").open() as stream:  # what was said before, is judged
        said = list(csv.DictReader(stream))
    for column in ("volume_to_ml_90", "predicted_dice", "dice_at_least_80"):
        assert [float(line[column]) for line in table] == pytest.approx(
            [float(line[column]) for line in said], rel=1e-8
        )


def test_the_same_for_any_number_of_processes_and_when_continued(folders):
    assert run(folders) == 0
    alone = (folders.root / "out" / "summary.json").read_bytes()
    assert run(folders, processes=2) == 0
    assert (folders.root / "out" / "summary.json").read_bytes() == alone
    assert run(folders, "--continue_evaluation") == 0
    assert (folders.root / "out" / "summary.json").read_bytes() == alone


def test_validation_cases_are_recognised(folders, capsys):
    made = folders
    options = ["-i", made.root / "val" / "pred", "-calibration", made.root / "val" / "pred" / "calibration.json"]
    options += ["-o", made.root / "decided", "--method", "decisions", "-np", "1", "--disable_progress_bar"]
    assert apply_calibration.main([str(option) for option in options]) == 0
    assert run(made, name="val") == 0
    assert "12 of 12 cases are validation cases that the decisions were fitted to" in capsys.readouterr().err


def test_shifts_are_judged_where_they_can_be(folders):
    made = folders
    made.add("blur", NEW, seed=3)
    made.add("old", NEW, seed=4)
    write_record(made, "blur")
    write_plans(made, "blur", [2.5, 0.9, 0.7])
    assert run(made, *made.shift_options("blur", "old", annotated=("blur", "old"))) == 0
    summary = read_json(made.root / "out" / "summary.json", SummaryFile)
    entry = summary["tasks"]["DECISIONS"]
    made.cases["new"] = made.cases["blur"]
    assert_close(without_intervals(entry["shifts"]), {"blur": expected(made)})
    assert "has no rows of structures for 4 of 4 cases" in summary["left_out"]["DECISIONS/old"]


def test_without_the_folder_it_is_left_out_and_no_table_stays(folders):
    assert run(folders) == 0
    common = ["-np", "1", "--no_pictures", "--disable_progress_bar", "-o", str(folders.root / "out")]
    assert evaluate.main([*folders.options("new"), *common]) == 0
    summary = json.loads((folders.root / "out" / "summary.json").read_text())
    assert "DECISIONS" not in summary["tasks"]
    assert summary["left_out"]["DECISIONS"] == "no -decisions folder was given"
    assert not (folders.root / "out" / "decisions.csv").exists()


def empty_table(made):
    path = made.root / "decided" / "structures.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")


def damage(value):
    def change(made):
        path = made.root / "decided" / "decisions.json"
        content = json.loads(path.read_text())
        content["decisions"]["structures"]["nodule"]["masks"]["thresholds"][0]["outer"] = value
        path.write_text(json.dumps(content))

    return change


REFUSED = {
    "no such folder": (
        lambda made: (made.root / "decided").rename(made.root / "gone"),
        "decisions.json does not exist",
    ),
    "no table": (lambda made: (made.root / "decided" / "structures.csv").unlink(), "structures.csv does not exist"),
    "another method": (
        lambda made: (made.root / "decided" / "decisions.json").write_text('{"method": "platt"}'),
        "decisions.json: method",
    ),
    "a cut file": (
        lambda made: (made.root / "decided" / "decisions.json").write_text('{"method": "deci'),
        "decisions.json: not valid JSON",
    ),
    "a threshold that is none": (damage(-1), "decisions.json: decisions: structures.nodule.masks.thresholds.0.outer"),
    "a threshold that is text": (
        damage("low"),
        "decisions.json: decisions: structures.nodule.masks.thresholds.0.outer",
    ),
    "a number that is text": (
        lambda made: (made.root / "decided" / "structures.csv").write_text(
            "case,structure,num_voxels,expected_voxels\na,nodule,many,3\n"
        ),
        "structures.csv: line 2: num_voxels must be a finite number",
    ),
    "other cases": (empty_table, "structures.csv lacks 4 cases (a, b, c, …)"),
    "other predictions": (
        lambda made: change_record(
            made, "new", lambda record: record["cases"]["b"]["structures"]["nodule"].update(expected_voxels=9.5)
        ),
        "structures.csv is of other predictions of b;",
    ),
    "a mask that is gone": (
        lambda made: (made.root / "decided" / "outer" / "b.nii.gz").unlink(),
        "outer lacks the masks of b; run nnunet_stochastic_apply_calibration --method decisions again",
    ),
    "another segmentation": (
        lambda made: made.add("new", NEW, seed=9),
        "the segmentation was changed since",
    ),
    "other labels": (
        lambda made: made.change_dataset("new", labels={"background": 0, "tumour": 1}),
        "made for other labels",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_judged_is_refused_before_anything_is_computed(folders, capsys, what):
    change, message = REFUSED[what]
    change(folders)
    assert run(folders) == 1
    assert message in capsys.readouterr().err
    assert not list((folders.root / "out").rglob("*.json"))
