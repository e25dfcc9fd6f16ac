"""Decisions by the two calibration commands: equal to fits and answers made from the arrays; resuming and refusals."""

import json

import numpy as np
import pytest

from nnunet_stochastic.commands import determine_calibration
from nnunet_stochastic.decisions.decisions import Decisions
from nnunet_stochastic.decisions.fitting import fit_decisions
from nnunet_stochastic.decisions.lesions import find_lesions
from nnunet_stochastic.decisions.overlaps import Overlaps
from nnunet_stochastic.decisions.statistics import case_statistics, image_scores
from nnunet_stochastic.decisions.structures import ProbabilitySums, structure_rows
from tests.commands.conftest import SPACING, MadeFolders

CLASSES = {"nodule": [1]}
VOXEL_ML = np.prod(SPACING) / 1000
VALIDATION = [f"v{i:02}" for i in range(12)]
PATIENTS = {name: f"p{index // 2}" for index, name in enumerate(VALIDATION)}
AFFINE = np.hstack([np.diag(SPACING[::-1])[::-1], [[1.0], [-20.0], [300.0]]])
AFFINE = np.vstack([AFFINE, [0, 0, 0, 1]])


@pytest.fixture
def folders(tmp_path):
    """Validation and new cases with the record of their prediction."""
    made = MadeFolders(tmp_path)
    made.add("val", VALIDATION, seed=1)
    made.add("new", ["a", "b", "c"], seed=2)
    for name in made.cases:
        write_record(made, name)
    lines = [f"{case},{patient}" for case, patient in PATIENTS.items()]
    (tmp_path / "patients.csv").write_text("\n".join(["case,patient", *lines]) + "\n")
    return made


def rows(case, *, samples=True):
    overlaps = Overlaps.of(case.samples, classes=[[1]]) if samples else None
    return structure_rows(
        case.prediction,
        CLASSES,
        probabilities={"nodule": ProbabilitySums.of(case.probabilities[1], case.prediction == 1)},
        maps=case.maps,
        voxel_ml=VOXEL_ML,
        samples=overlaps,
    )


def lesions(case):
    samples = list(case.samples == 1)
    return find_lesions("nodule", case.prediction == 1, affine=AFFINE, voxel_ml=VOXEL_ML, samples=samples)


def write_record(made, name, *, samples=True, trainer="nnUNetTrainerMoB"):
    entries = {}
    for case, arrays in made.cases[name].items():
        (row,) = rows(arrays, samples=samples)
        structure = {key: value for key, value in row.as_json().items() if key != "structure"}
        entries[case] = {
            "structures": {"nodule": structure},
            "lesions": [lesion.as_json() for lesion in lesions(arrays)[0]],
        }
    settings = {"trainer": trainer, "configuration": "3d_fullres", "lesions": ["nodule"], "min_lesion_ml": 0.0}
    content = json.dumps({"settings": settings, "cases": entries})
    (made.root / name / "pred" / "uncertainty.json").write_text(content)


def statistics(made, patients=PATIENTS, *, raters=True):
    """What the validation cases contribute, from their arrays."""
    return [
        case_statistics(
            name,
            patients[name],
            segmentation=case.prediction,
            references=list(case.raters) if raters else [case.reference],
            classes=CLASSES,
            rows=rows(case),
            voxel_ml=VOXEL_ML,
            probabilities={"nodule": case.probabilities[1]},
            lesions={"nodule": lesions(case)},
            scores=image_scores(case.maps, case.prediction),
        )
        for name, case in made.cases["val"].items()
    ]


def determine(made, *options, raters=True, processes=1):
    common = ["-np", str(processes), "--disable_progress_bar"]
    return determine_calibration.main([*made.options("val", "-val", raters=raters), *common, *map(str, options)])


def calibration_file(made):
    return made.root / "val" / "pred" / "calibration.json"


def content(made):
    return json.loads(calibration_file(made).read_text())


def assert_close(found, expected):
    """Equal but for the rounding of maps in files and sums over voxels."""
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_close(found[key], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-9)
    else:
        assert found == expected


@pytest.mark.parametrize("raters", [True, False])
def test_decisions_are_those_of_the_arrays(folders, capsys, raters):
    groups = folders.root / "patients.csv"
    assert determine(folders, "--groups", groups, "--seed", 5, raters=raters) == 0
    expected = fit_decisions(statistics(folders, raters=raters), labels=CLASSES, seed=5)
    found = content(folders)
    assert_close(found["decisions"], expected.model_dump(mode="json"))
    assert found["left_out"] == {}
    assert found["folders"]["groups"] == str(groups)
    tumour = expected.structures["nodule"]
    assert (expected.num_cases, expected.num_patients, tumour.existence.num_patients) == (12, 6, 6)
    assert expected.image_scores.keys() == {"AU_mean", "AU_border", "EU_mean", "EU_border", "TU_mean", "TU_border"}
    printed = capsys.readouterr().out
    assert "decisions: 12 cases of 6 patients\n" in printed
    assert "decisions: nodule: volume interval at 90 % is infinite: 6 patients, at least 9 are needed\n" in printed


def test_each_case_is_a_patient_where_no_table_says_otherwise(folders, capsys):
    assert determine(folders) == 0
    own = fit_decisions(statistics(folders, {name: name for name in VALIDATION}), labels=CLASSES)
    assert_close(content(folders)["decisions"], own.model_dump(mode="json"))
    assert "12 cases of 12 patients (each case counts as one; --groups says otherwise)" in capsys.readouterr().out


def test_the_same_decisions_for_any_number_of_processes(folders):
    assert determine(folders) == 0
    alone = calibration_file(folders).read_bytes()
    assert determine(folders, processes=2) == 0
    assert calibration_file(folders).read_bytes() == alone


def test_without_all_samples_lesions_of_the_segmentation_count(folders):
    for case in VALIDATION:
        (folders.root / "val" / "pred" / "samples" / f"{case}_002.nii.gz").unlink()
    assert determine(folders) == 0
    found = Decisions.model_validate(content(folders)["decisions"]).structures["nodule"].existence
    own = [[lesion for lesion in lesions(case)[0] if not lesion.candidate] for case in folders.cases["val"].values()]
    assert found.num_lesions == sum(map(len, own)) > 0


def test_without_probabilities_and_samples(folders):
    for case in VALIDATION:
        (folders.root / "val" / "pred" / f"{case}.npz").unlink()
    write_record(folders, "val", samples=False)
    assert determine(folders) == 0
    nodule = content(folders)["decisions"]["structures"]["nodule"]
    assert nodule["left_out"]["masks"] == "there are no probabilities; predict with --save_probabilities"
    assert nodule["volume"]["has_samples"] is False


def change_record(made, name, change):
    path = made.root / name / "pred" / "uncertainty.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


LEFT_OUT = {
    "no record": (lambda made: (made.root / "val/pred/uncertainty.json").unlink(), "for 12 of 12 cases, as v00"),
    "a case of an old record": (
        lambda made: change_record(made, "val", lambda record: record["cases"]["v03"].pop("structures")),
        "for 1 of 12 cases, as v03; predict again",
    ),
    "other structures": (
        lambda made: made.change_dataset("val", labels={"background": 0, "tumour": 1}),
        "has rows of nodule for v00, dataset.json has tumour",
    ),
    "another segmentation": (
        lambda made: change_record(
            made, "val", lambda record: record["cases"]["v05"]["structures"]["nodule"].update(num_voxels=7)
        ),
        "v05: ",
    ),
}


@pytest.mark.parametrize("what", LEFT_OUT)
def test_no_decisions_and_the_reason(folders, capsys, what):
    change, reason = LEFT_OUT[what]
    change(folders)
    assert determine(folders) == 0
    found = content(folders)
    assert found["decisions"] is None
    assert reason in found["left_out"]["decisions"]
    assert f"left out: decisions: {found['left_out']['decisions']}" in capsys.readouterr().out
    assert found["platt"].keys() == {"AU", "EU", "TU"}


def test_one_patient_and_no_lesion(folders, capsys, write_image):
    groups = folders.root / "patients.csv"
    groups.write_text("\n".join(["case,patient", *(f"{case},only" for case in VALIDATION)]))
    assert determine(folders, "--groups", groups) == 0
    printed = capsys.readouterr().out
    assert "decisions: nodule: dice: predicted Dice needs at least 4 patients, got 1" in printed
    assert "decisions: nodule: volume interval at 80 % is infinite: 1 patients, at least 4 are needed" in printed
    for case, arrays in folders.cases["val"].items():
        for index in range(3):
            write_image(folders.root / "val" / "raters" / f"{case}_rater{index}.nii.gz", 0 * arrays.reference)
    assert determine(folders) == 0
    assert "decisions: nodule: dice: no validation case has the structure in a reference" in capsys.readouterr().out


def test_a_table_of_patients_without_a_case(folders, capsys):
    groups = folders.root / "patients.csv"
    groups.write_text("case,patient\nv00,p\n")
    assert determine(folders, "--groups", groups) == 1
    assert "no line for v01, v02" in capsys.readouterr().err
    assert not calibration_file(folders).exists()
