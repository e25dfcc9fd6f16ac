"""The example of decisions over many divisions of annotated cases: it reads what calibrations read."""

import json
import runpy
from pathlib import Path

import pytest

from nnunet_stochastic.decisions.experiment import split_experiment
from tests.commands.conftest import MadeFolders
from tests.commands.test_decisions import CLASSES, PATIENTS, VALIDATION, statistics, write_record

EXAMPLE = Path(__file__).parents[2] / "examples" / "decisions" / "divide.py"


def test_divisions_are_those_of_the_arrays(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    made = MadeFolders(tmp_path)
    made.add("val", VALIDATION, seed=1)
    write_record(made, "val")
    (tmp_path / "patients.csv").write_text("case,patient\n" + "".join(f"{c},{PATIENTS[c]}\n" for c in VALIDATION))
    divide = runpy.run_path(str(EXAMPLE))["main"]
    options = made.options("val", "-val", raters=True)[2:]
    predictions = tmp_path / "val" / "pred"
    assert (
        divide(
            [str(predictions), *options, "--groups", str(tmp_path / "patients.csv"), "--num_splits", "2", "-np", "1"]
        )
        == 0
    )
    found = json.loads((predictions / "divisions.json").read_text())
    expected = split_experiment(statistics(made), labels=CLASSES, num_splits=2)
    assert found["num_cases"] == expected["num_cases"] == len(VALIDATION)
    assert found["results"].keys() == expected["results"].keys()
    for name, values in expected["results"].items():
        assert found["results"][name]["mean"] == pytest.approx(values["mean"], rel=1e-4, abs=1e-6), name
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= 80
