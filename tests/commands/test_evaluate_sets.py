"""Evaluation of several sets: number of processes, resuming, maps that are missing or constant, and refusals."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from nnunet_stochastic import metrics


@pytest.fixture(scope="module")
def evaluated(made_once):
    made_once.calibrate()
    assert made_once.evaluate(*made_once.all_tasks()) == 0
    return made_once


FILES = ("summary.json", "cases.csv", "images.csv", "scores.csv", "curves.json")


def test_the_same_files_for_any_number_of_processes(evaluated):
    assert evaluated.evaluate(*evaluated.all_tasks(), processes=2, out="two") == 0
    for name in FILES:
        assert (evaluated.root / "two" / name).read_bytes() == (evaluated.root / "out" / name).read_bytes()


def test_continuing_gives_the_same_and_computes_only_what_is_missing_or_changed(made, write_image):
    made.calibrate()
    assert made.evaluate(*made.all_tasks()) == 0
    whole = {name: (made.root / "out" / name).read_bytes() for name in FILES}
    records = made.root / "out" / "records"
    (records / "ID" / "c.json").unlink()
    (records / "blur" / "a.json").write_text('{"cut')
    changed = json.loads((records / "blur" / "b.json").read_text())
    changed["image"]["dice"] = {"x": []}
    (records / "blur" / "b.json").write_text(json.dumps(changed))
    times = {path: path.stat().st_mtime_ns for path in records.rglob("*.json")}
    assert made.evaluate(*made.all_tasks(), "--continue_evaluation") == 0
    assert {name: (made.root / "out" / name).read_bytes() for name in FILES} == whole
    written = {path.stem for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert written == {"a", "b"}  # and c, which was not there

    write_image(made.map_file("id", "EU", "b"), 3 * made.cases["id"]["b"].maps["EU"])
    assert made.evaluate(*made.all_tasks(), "--continue_evaluation") == 0
    table = pd.read_csv(made.root / "out" / "scores.csv").set_index(["set", "case", "measure"])
    assert table.loc[("ID", "b", "EU"), "mean"] == pytest.approx(3 * made.cases["id"]["b"].maps["EU"].mean(), rel=1e-5)
    assert made.evaluate(*made.all_tasks(), "--continue_evaluation", "--convention", "values") == 0
    assert made.summary()["tasks"]["CAL"]["ID"] == made.summary()["tasks"]["CAL"]["per_image"]["ID"]


def test_intervals_over_patients(evaluated, capsys):
    table = evaluated.root / "patients.csv"
    # The test images are of two patients, of which one is in the set of the scanner, too.
    table.write_text("case,patient\na,1\nb,1\nc,1\nd,2\ns,2\nt,3\n")
    assert evaluated.evaluate(*evaluated.all_tasks(), "--groups", table, out="grouped") == 0
    grouped, single = evaluated.summary("grouped"), evaluated.summary()
    assert grouped["bootstrap"]["unit"] == "patient"
    assert grouped["bootstrap"]["sets"] == {
        "ID": {"cases": 4, "patients": 2},
        "blur": {"cases": 3, "patients": 2},
        "scanner": {"cases": 2, "patients": 2},
    }
    assert single["bootstrap"]["unit"] == "case"
    assert single["bootstrap"]["sets"]["ID"] == {"cases": 4, "patients": None}
    assert (single["folders"]["groups"], grouped["folders"]["groups"]) == (None, str(table))
    assert "patients (ID: 4 cases of 2" in " ".join(capsys.readouterr().out.split())
    for name in ("cases.csv", "images.csv", "scores.csv", "curves.json"):
        assert (evaluated.root / "grouped" / name).read_bytes() == (evaluated.root / "out" / name).read_bytes()
    assert {key for key in single if single[key] != grouped[key]} == {"folders", "delta", "bootstrap", "intervals"}
    # Of two patients a replicate has both, or one of them twice; three of four cases are of the first.
    ncc = (
        pd.read_csv(evaluated.root / "out" / "scores.csv")
        .query("set == 'ID'")
        .pivot(index="case", columns="measure", values="ncc")
    )
    by_replicate = [ncc.loc[list(cases)].mean() for cases in ("abc", "abcd", "d")]
    delta = [metrics.entanglement(mean["AU"], mean["EU"]) for mean in by_replicate]
    assert grouped["delta"]["AMB"]["ID"]["interval"] == pytest.approx([min(delta), max(delta)])
    numbers = [mean["AU"] for mean in by_replicate]
    assert grouped["intervals"]["tasks"]["AMB"]["ID"]["AU"] == pytest.approx([min(numbers), max(numbers)])
    assert grouped["delta"]["AMB"]["ID"]["value"] == single["delta"]["AMB"]["ID"]["value"]

    table.write_text("case,patient\na,1\nb,1\nc,1\nd,2\n")
    assert evaluated.evaluate(*evaluated.all_tasks(), "--groups", table, out="incomplete") == 1
    assert "no line for s, t" in capsys.readouterr().err
    assert not (evaluated.root / "incomplete").exists()


def test_total_map_alone(made):
    made.calibrate()
    for name in ("id", "blur"):
        for case in made.cases[name]:
            for measure in ("AU", "EU"):
                made.map_file(name, measure, case).unlink()
    options = made.shift_options("blur", annotated=("blur",))
    assert made.evaluate(*options, "-val", made.root / "val" / "pred") == 0
    found = made.summary()
    assert found["tasks"]["OODD"]["AU"] is None
    assert 0 < found["tasks"]["OODD"]["TU"] < 1
    assert found["tasks"]["AMB"]["ID"]["TU"] > 0.1
    assert found["left_out"]["EU"] == "no epistemic maps"
    assert found["delta"] == {}
    assert "RATIO" not in found["tasks"]


def test_constant_validation_map(made, write_image):
    for case, arrays in made.cases["val"].items():
        write_image(made.map_file("val", "EU", case), 0 * arrays.maps["EU"])
    made.calibrate()
    assert made.evaluate("-val", made.root / "val" / "pred") == 0
    found = made.summary()
    assert found["tasks"]["CAL"]["ID"]["EU"] is None
    assert found["left_out"]["CAL/EU"] == "constant (0) in all voxels"
    assert found["delta"]["CAL"]["ID"] == {"value": None, "interval": [None, None]}


def test_regions_and_ignore_label(made, write_image):
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    made.change_dataset("id", labels=labels, regions_class_order=[1, 2])
    for path in (made.root / "id" / "pred").glob("*.npz"):  # whole as predicted, no core
        probability = np.load(path)["probabilities"][1]
        np.savez(path, probabilities=np.stack([probability, 0.1 * probability]))
    case = made.cases["id"]["a"]
    for name, arrays in made.cases["id"].items():
        for index, rater in enumerate(arrays.raters):
            marked = rater.copy()
            if name == "a" and index == 0:
                marked[2] = 3
            write_image(made.root / "id" / "raters" / f"{name}_rater{index}.nii.gz", marked)
    assert made.evaluate() == 0
    table = pd.read_csv(made.root / "out" / "scores.csv").set_index(["case", "measure"])
    variance = 2 * case.raters[:, :2].mean(axis=0) * (1 - case.raters[:, :2].mean(axis=0))
    correlation = np.corrcoef(case.maps["AU"][:2].ravel(), variance.ravel())[0, 1] * (1 - 1 / variance.size)
    assert table.loc[("a", "AU"), "ncc"] == pytest.approx(correlation, rel=1e-5)
    assert table.loc[("a", "AU"), "mean"] == pytest.approx(case.maps["AU"].mean(), rel=1e-5)  # all voxels


def fails_with(message, made, capsys, *options):
    assert made.evaluate(*options) == 1
    assert message in capsys.readouterr().err
    assert not (made.root / "out" / "summary.json").exists()


def test_wrong_options(made, capsys):
    blur = made.root / "blur" / "pred"
    fails_with("takes NAME=FOLDER", made, capsys, "-ood", blur)
    fails_with("another meaning", made, capsys, "-ood", f"OOD={blur}")
    fails_with("names blur twice", made, capsys, "-ood", f"blur={blur}", f"blur={blur}")
    fails_with("-ood_gt names blr", made, capsys, "-ood", f"blur={blur}", "-ood_gt", f"blr={blur}")
    fails_with("nnunet_stochastic_determine_calibration", made, capsys, "-val", made.root / "val" / "pred")


def test_sets_that_do_not_belong_together(made, capsys):
    options = made.shift_options("blur", annotated=("blur",))
    (made.root / "blur" / "gt" / "d.nii.gz").unlink()
    fails_with("blur: d: predicted, but not in", made, capsys, *options)
    for case in made.cases["blur"]:
        made.map_file("blur", "EU", case).unlink()
    fails_with("has no epistemic maps, those of ID have them", made, capsys, *made.shift_options("blur"))
    for last in (made.root / "scanner" / "pred" / "samples").glob("*_002.nii.gz"):
        last.unlink()
    fails_with("scanner: 2 samples per case, ID has 3", made, capsys, *made.shift_options("scanner"))


def test_a_set_without_samples(made):
    assert made.evaluate() == 0
    of_known = made.summary()["tasks"]["GED"]["ID"]
    shutil.rmtree(made.root / "blur" / "pred" / "samples")
    assert made.evaluate(*made.shift_options("blur", annotated=("blur",))) == 0
    found = made.summary()
    assert found["tasks"]["GED"]["ID"] == pytest.approx(of_known)
    assert found["tasks"]["GED"]["OOD"] is None
    assert "--save_samples" in found["left_out"]["GED/blur"]
    assert found["tasks"]["AMB"]["OOD"]["AU"] > 0


def test_map_of_another_geometry(made, capsys, write_image):
    write_image(made.map_file("blur", "TU", "b"), np.zeros((3, 12, 15), dtype=np.float32))
    fails_with("b: ", made, capsys, *made.shift_options("blur"))
    assert not (made.root / "out" / "records").exists()
