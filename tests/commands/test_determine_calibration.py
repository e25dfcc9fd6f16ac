"""calibration.json against fits to all voxels at once, whatever the number of processes; and what is left out."""

import json
import shutil

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar

from nnunet_stochastic.commands.determine_calibration import main


def run(made, *options, raters=True, processes=1):
    common = ["-np", str(processes), "--disable_progress_bar"]
    return main([*made.options("val", "-val", raters=raters), *common, *map(str, options)])


def content(made):
    return json.loads((made.root / "val" / "pred" / "calibration.json").read_text())


def pooled(made, measure, annotations):
    """Uncertainty and correctness of all voxels, cases and annotations."""
    u, correct = [], []
    for case in made.cases["val"].values():
        for annotation in annotations(case):
            u.append(case.maps[measure].ravel())
            correct.append((case.prediction == annotation).ravel())
    return np.concatenate(u).astype(np.float64), np.concatenate(correct)


def fit(u, correct):
    """Maximum likelihood of sigmoid(-(a(-u) + b)) over single voxels, with Platt's targets."""
    target = np.where(correct, (correct.sum() + 1) / (correct.sum() + 2), 1 / ((~correct).sum() + 2))

    def loss(parameters):
        logit = parameters[0] * u - parameters[1]
        return np.mean(np.logaddexp(0, logit) - target * logit)

    return minimize(loss, [-1.0, -1.0], method="BFGS", options={"gtol": 1e-9}).x


def test_platt_temperature_and_threshold(made):
    assert run(made) == 0
    found = content(made)
    cases = made.cases["val"].values()
    quantile = np.mean([np.mean(case.prediction == 0) for case in cases])
    assert found["threshold"]["quantile"] == pytest.approx(quantile)
    for measure in ("AU", "EU", "TU"):
        u, correct = pooled(made, measure, lambda case: case.raters)
        a, b = fit(u, correct)
        assert found["platt"][measure]["a"] == pytest.approx(a, rel=0.01)
        assert found["platt"][measure]["b"] == pytest.approx(b, rel=0.01)
        assert found["threshold"][measure] == pytest.approx(np.quantile(u, quantile), rel=0.02)

    single = [
        fit(np.tile(case.maps["AU"].ravel(), 3).astype(float), (case.prediction == case.raters).ravel())
        for case in cases
    ]
    assert found["platt_per_image"]["AU"]["a"] == pytest.approx(np.mean(single, axis=0)[0], rel=0.02)

    def nll(temperature):
        total = 0
        for case in cases:
            powered = case.probabilities.astype(float) ** (1 / temperature)
            powered /= powered.sum(axis=0)
            total -= sum(np.log(np.where(rater == 1, powered[1], powered[0])).sum() for rater in case.raters)
        return total

    best = minimize_scalar(nll, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-6}).x
    assert found["temperature"] == pytest.approx(best, rel=1e-3)
    assert (found["num_cases"], found["num_raters"], found["left_out"].keys()) == (3, 3, {"decisions"})


def test_reference_alone(made):
    assert run(made, raters=False) == 0
    a, _ = fit(*pooled(made, "TU", lambda case: [case.reference]))
    assert content(made)["platt"]["TU"]["a"] == pytest.approx(a, rel=0.01)
    assert content(made)["num_raters"] == 0


def test_references_of_training_cases_are_passed_over(made):
    assert run(made) == 0
    expected = content(made)
    folder = made.root / "val" / "gt"
    case = next(iter(made.cases["val"]))
    shutil.copyfile(folder / f"{case}.nii.gz", folder / "training_case.nii.gz")
    assert run(made) == 0
    assert content(made) == expected


def test_the_same_file_for_any_number_of_processes(made):
    run(made)
    alone = (made.root / "val" / "pred" / "calibration.json").read_bytes()
    assert run(made, processes=2) == 0
    assert (made.root / "val" / "pred" / "calibration.json").read_bytes() == alone


def test_voxels_with_the_ignore_label_do_not_count(made, write_image):
    made.change_dataset("val", labels={"background": 0, "nodule": 1, "ignore": 2})
    u, correct = [], []
    for name, case in made.cases["val"].items():
        for index, rater in enumerate(case.raters):
            marked = rater.copy()
            marked[index] = 2  # another slice for each rater
            write_image(made.root / "val" / "raters" / f"{name}_rater{index}.nii.gz", marked)
            u.append(case.maps["AU"][marked != 2])
            correct.append((case.prediction == rater)[marked != 2])
    assert run(made) == 0
    a, b = fit(np.concatenate(u).astype(float), np.concatenate(correct))
    assert content(made)["platt"]["AU"] == pytest.approx({"a": a, "b": b}, rel=0.01)


def test_constant_map_is_left_out_with_the_reason(made, write_image):
    for case, arrays in made.cases["val"].items():
        write_image(made.map_file("val", "EU", case), 0 * arrays.maps["EU"])
    assert run(made) == 0
    left_out = content(made)["left_out"]
    assert left_out.pop("decisions").endswith("predict again with the present nnunet_stochastic_predict")
    assert left_out == {"EU": "constant (0) in all voxels"}
    assert content(made)["platt"].keys() == {"AU", "TU"}


@pytest.mark.parametrize(("source", "mark"), [("aleatoric_samples", " †"), ("swag", "")])
def test_the_eu_of_one_member_is_marked(made, capsys, source, mark):
    settings = {"trainer": "nnUNetTrainerSSN", "aleatoric_source": "model", "epistemic_source": source}
    (made.root / "val" / "pred" / "uncertainty.json").write_text(json.dumps({"settings": settings, "cases": {}}))
    assert run(made) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed[:3]] == ["AU", f"EU{mark}", "TU"]
    assert content(made)["model"]["epistemic_is_stand_in"] is bool(mark)
    note = "† one member: its aleatoric samples stand in for members; not to be read as epistemic uncertainty"
    assert printed.count(note) == len(mark) // 2


def test_without_probabilities_and_maps(made, capsys):
    for case in made.cases["val"]:
        (made.root / "val" / "pred" / f"{case}.npz").unlink()
    assert run(made) == 0
    assert content(made)["temperature"] is None
    assert "--save_probabilities" in content(made)["left_out"]["temperature"]
    for case in made.cases["val"]:
        for measure in ("AU", "EU", "TU"):
            made.map_file("val", measure, case).unlink()
    assert run(made) == 1
    assert "neither uncertainty maps nor probabilities" in capsys.readouterr().err


def test_empty_validation_set(made, capsys):
    for path in (made.root / "val" / "pred").glob("*.nii.gz"):
        path.unlink()
    assert run(made) == 1
    assert "there is no prediction" in capsys.readouterr().err
