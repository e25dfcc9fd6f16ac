"""Decisions by the two calibration commands: equal to fits and answers made from the arrays; resuming and refusals."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from skimage.io import imread, imsave

from nnunet_stochastic.commands import apply_calibration, determine_calibration, evaluate
from nnunet_stochastic.decisions.decisions import Decisions
from nnunet_stochastic.decisions.fitting import fit_decisions
from nnunet_stochastic.decisions.lesions import find_lesions
from nnunet_stochastic.decisions.overlaps import Overlaps
from nnunet_stochastic.decisions.review import CaseToReview, labelling_features, next_to_label, review
from nnunet_stochastic.decisions.risk_control import Threshold
from nnunet_stochastic.decisions.statistics import case_statistics, image_scores
from nnunet_stochastic.decisions.structures import ProbabilitySums, structure_rows
from nnunet_stochastic.evaluation.cases import find_cases
from nnunet_stochastic.evaluation.decision_folder import MaskFolder
from nnunet_stochastic.io.result_schemas import DecisionsFile
from nnunet_stochastic.io.text import read_json
from nnunet_stochastic.labels import EvaluatedLabels
from tests.commands.conftest import SPACING, MadeFolders

CLASSES = {"nodule": [1]}
VOXEL_ML = np.prod(SPACING) / 1000
VALIDATION = [f"v{i:02}" for i in range(12)]
PATIENTS = {name: f"p{index // 2}" for index, name in enumerate(VALIDATION)}
AFFINE = np.hstack([np.diag(SPACING[::-1])[::-1], [[1.0], [-20.0], [300.0]]])
AFFINE = np.vstack([AFFINE, [0, 0, 0, 1]])


@pytest.fixture
def folders(tmp_path):
    return make_folders(tmp_path)


def make_folders(root, *, new=("a", "b", "c"), patients=PATIENTS):
    """Validation and new cases with the record of their prediction, and a table of patients."""
    made = MadeFolders(root)
    made.add("val", VALIDATION, seed=1)
    made.add("new", new, seed=2)
    for name in made.cases:
        write_record(made, name)
        write_plans(made, name, [2.5, 0.9, 0.7])
    lines = [f"{case},{patient}" for case, patient in patients.items()]
    (root / "patients.csv").write_text("\n".join(["case,patient", *lines]) + "\n")
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
            "input_files": [f"{case}_0000.nii.gz"],
        }
    settings = {
        "trainer": trainer,
        "configuration": "3d_fullres",
        "lesions": ["nodule"],
        "min_lesion_ml": 0.0,
        "checkpoints": {"fold_0": {"sha256": "a" * 64}},
        "members": 2,
        "epistemic_source": "ensemble",
        "seed": len(name),
        "device": name,
    }
    content = json.dumps({"settings": settings, "cases": entries})
    (made.root / name / "pred" / "uncertainty.json").write_text(content)


def write_plans(made, name, spacing):
    plans = {"plans_name": "nnUNetPlans", "configurations": {"3d_fullres": {"spacing": spacing}}}
    content = json.dumps(plans | {"image_reader_writer": "SimpleITKIO"})
    (made.root / name / "pred" / "plans.json").write_text(content)


def statistics(made, patients=PATIENTS, *, raters=True, of="val"):
    """What the cases of a set contribute, from their arrays; without a patient a case is its own."""
    return [
        case_statistics(
            name,
            patients.get(name, name),
            segmentation=case.prediction,
            references=list(case.raters) if raters else [case.reference],
            classes=CLASSES,
            rows=rows(case),
            voxel_ml=VOXEL_ML,
            probabilities={"nodule": case.probabilities[1]},
            lesions={"nodule": lesions(case)},
            scores=image_scores(case.maps, case.prediction),
        )
        for name, case in made.cases[of].items()
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
    assert (found.num_lesions, found.has_candidates) == (sum(map(len, own)), False)
    assert apply(folders) == 0
    for line in table(folders.root / "out" / "lesions.csv"):
        assert (line["probability"] == "") == (line["candidate"] == "True")


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
    assert "decisions: nodule: volume interval at 80 % is infinite: 1 patient, at least 4 are needed" in printed
    for case, arrays in folders.cases["val"].items():
        for index in range(3):
            write_image(folders.root / "val" / "raters" / f"{case}_rater{index}.nii.gz", 0 * arrays.reference)
    assert determine(folders) == 0
    assert "decisions: nodule: dice: no validation case has the structure in a reference" in capsys.readouterr().out


def test_a_table_of_patients_without_a_case(folders, capsys):
    groups = folders.root / "patients.csv"
    groups.write_text("case,patient\nv00,p\n")
    assert determine(folders, "--groups", groups) == 1
    assert "no line for " in capsys.readouterr().err
    assert not calibration_file(folders).exists()


@pytest.fixture(scope="module")
def decided_once(tmp_path_factory):
    made = make_folders(tmp_path_factory.mktemp("decided"))
    assert determine(made, "--groups", made.root / "patients.csv") == 0
    return made


@pytest.fixture
def decided(decided_once, tmp_path):
    """Folders to be changed, with decisions that are determined."""
    return decided_once.copy(tmp_path)


def apply(made, *options, processes=1):
    common = ["-i", made.root / "new" / "pred", "-calibration", calibration_file(made), "-o", made.root / "out"]
    options = [*common, "--method", "decisions", "-np", processes, "--disable_progress_bar", *options]
    return apply_calibration.main(list(map(str, options)))


def table(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def written(folder):
    """Bytes of all files below a folder, none of which is hidden."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def nine_digits(value):
    """As in structures.csv and lesions.csv."""
    return as_written(float(f"{value:.9g}") if isinstance(value, float) else value)


def as_written(value):
    return "" if value is None else str(value)


@pytest.mark.parametrize("alpha", [None, 0.2])
def test_masks_are_those_of_the_thresholds(decided, alpha):
    assert apply(decided, *(() if alpha is None else ("--alpha", alpha))) == 0
    masks = Decisions.model_validate(content(decided)["decisions"]).structures["nodule"].masks
    threshold = masks.at(alpha or 0.1)
    for name, case in decided.cases["new"].items():
        for folder, limit in (("inner", threshold.inner), ("outer", threshold.outer)):
            image = sitk.ReadImage(str(decided.root / "out" / folder / f"{name}.nii.gz"))
            np.testing.assert_array_equal(sitk.GetArrayFromImage(image), case.probabilities[1] >= limit)
            assert image.GetSpacing() == pytest.approx(SPACING)
            assert image.GetOrigin() == (1.0, -20.0, 300.0)
    if alpha:
        assert 0 < threshold.outer < threshold.inner < 1


def test_tables_are_those_of_the_arrays(decided, capsys):
    assert apply(decided) == 0
    printed = capsys.readouterr().out
    assert "decisions: of 12 validation cases of 6 patients\n" in printed
    assert "decisions: nodule: inner mask at 10 % is empty: 6 patients, at least 9 are needed\n" in printed
    decisions = Decisions.model_validate(content(decided)["decisions"])
    cases = decided.cases["new"]
    record = json.loads((decided.root / "new" / "pred" / "uncertainty.json").read_text())["cases"]
    assessed = {name: decisions.assess(rows(case)[0]) for name, case in cases.items()}
    for line in table(decided.root / "out" / "structures.csv"):
        found, (row,) = assessed[line["case"]], rows(cases[line["case"]])
        assert line["num_voxels"] == str(record[line["case"]]["structures"]["nodule"]["num_voxels"])
        for level in (80, 90, 95):
            low, high = found.intervals_ml[level / 100]
            assert (line[f"volume_from_ml_{level}"], line[f"volume_to_ml_{level}"]) == (
                nine_digits(low),
                nine_digits(high),
            )
            assert line[f"dice_at_least_{level}"] == nine_digits(found.dice_at_least[level / 100])
        assert line["volume_to_ml_90"] == "inf"
        assert line["predicted_dice"] == nine_digits(found.predicted_dice)
        assert line["expected_loss"] == nine_digits(found.expected_loss)
        assert line["sample_sd_ml"] == nine_digits(row.sample_sd_ml)
    scores = {name: image_scores(case.maps, case.prediction) for name, case in cases.items()}
    expected = review([CaseToReview.of(name, rows(case), scores[name], decisions) for name, case in cases.items()])
    order = next_to_label(
        {name: scores[name]["EU_mean"] for name in cases},
        {name: labelling_features(rows(case), scores[name]) for name, case in cases.items()},
    )
    assert table(decided.root / "out" / "lesions.csv") == [
        {
            "case": name,
            **{column: nine_digits(value) for column, value in lesion.as_columns().items()},
            "probability": nine_digits(decisions.existence(lesion)),
        }
        for name, case in cases.items()
        for lesion in lesions(case)[0]
    ]
    lines = table(decided.root / "out" / "review.csv")
    assert [line.pop("label_next") for line in lines] == [str(order.index(row.case) + 1) for row in expected]
    for line, row in zip(lines, expected, strict=True):
        assert line == {name: as_written(value) for name, value in dataclasses.asdict(row).items()}
    assert lines[-1]["removed"] == "1.0"


def test_the_same_files_for_any_number_of_processes_and_not_into_the_predictions(decided, capsys):
    assert apply(decided) == 0
    alone = written(decided.root / "out")
    assert apply(decided, "-o", decided.root / "two", processes=2) == 0
    assert written(decided.root / "two") == alone
    folder = decided.root / "new" / "pred"
    before = written(folder)
    assert apply(decided, "-o", folder) == 1
    assert "would overwrite the prediction's structures.csv in -i; choose another folder" in capsys.readouterr().err
    assert written(folder) == before
    validation = decided.root / "val" / "pred"
    before = written(validation)
    assert apply(decided, "-o", validation) == 1
    assert f"{validation} holds predictions, whose structures.csv" in capsys.readouterr().err
    assert written(validation) == before
    assert sorted(alone) == sorted(
        ["decisions.json", "lesions.csv", "review.csv", "structures.csv"]
        + [f"{which}/{case}.nii.gz" for which in ("inner", "outer") for case in "abc"]
    )


def interrupted(*_):
    raise KeyboardInterrupt


def test_continue_after_an_interruption(decided, monkeypatch, capsys):
    out = decided.root / "out"
    assert apply(decided, "--alpha", 0.2) == 0
    whole = written(out)
    assert apply(decided) == 0
    with monkeypatch.context() as patched:
        patched.setattr(MaskFolder, "write", interrupted)
        assert apply(decided, "--alpha", 0.2) == 130
    assert apply(decided, "--continue_calibration") == 1
    assert "is of another method or calibration" in capsys.readouterr().err
    assert apply(decided, "--alpha", 0.2, "--continue_calibration") == 0
    assert written(out) == whole
    (out / "outer" / "b.nii.gz").unlink()
    (out / "outer" / "a.nii.gz").write_bytes(whole["outer/c.nii.gz"])
    assert apply(decided, "--alpha", 0.2, "--continue_calibration") == 0
    assert written(out) == {**whole, "outer/a.nii.gz": whole["outer/c.nii.gz"]}  # kept


def test_a_damaged_record_is_named_with_its_field(decided, capsys):
    assert apply(decided) == 0
    path = decided.root / "out" / "decisions.json"
    good = json.loads(path.read_text())
    changed = good["decisions"] | {"seed": 1}
    for text, message in {
        "": "not valid JSON, the file is empty; leave --continue_calibration out",
        "[[]]": "an object is needed, got a list; leave --continue_calibration out",
        json.dumps(
            {}
        ): "is of another method or calibration, or of other predictions (alpha was absent and is now 0.1)",
        json.dumps(
            good | {"alpha": [0.1]}
        ): "is of another method or calibration, or of other predictions (alpha was [0.1] and is now 0.1)",
        json.dumps(
            good | {"decisions": changed}
        ): "another method or calibration, or of other predictions (decisions: seed was 1 and is now 0)",
        json.dumps(
            good | {"masks": None}
        ): "(masks was None and is now ['nodule']): use another output folder or leave",
    }.items():
        path.write_text(text)
        capsys.readouterr()
        assert apply(decided, "--continue_calibration") == 1
        error = capsys.readouterr().err
        assert str(path) in error
        assert message in error
        assert "Traceback" not in error
    path.write_text(json.dumps(good))
    assert apply(decided, "--continue_calibration") == 0


def test_names_of_any_kind_and_what_lies_beside(decided):
    decided.add("odd", ["n a", "\u00e9_x", "$x[1]"], seed=3)
    write_record(decided, "odd")
    write_plans(decided, "odd", [2.5, 0.9, 0.7])
    folder = decided.root / "odd" / "pred"
    (folder / "sub folder").mkdir()
    (folder / "sub folder" / "other.nii.gz").write_bytes((folder / "n a.nii.gz").read_bytes())
    (folder / "notes.txt").write_text("x")
    assert apply(decided, "-i", folder) == 0
    assert {line["case"] for line in table(decided.root / "out" / "review.csv")} == decided.cases["odd"].keys()
    masks = {path.name for path in (decided.root / "out" / "inner").iterdir()}
    assert masks == {f"{case}.nii.gz" for case in decided.cases["odd"]}


def test_decisions_say_whose_they_are(decided, capsys):
    predictions = decided.root / "new" / "pred"
    assert apply(decided) == 0
    record = read_json(decided.root / "out" / "decisions.json", DecisionsFile)
    assert record["predictions"] == str(predictions.resolve())
    predictions.rename(decided.root / "moved")
    capsys.readouterr()
    assert apply(decided, "-i", decided.root / "moved", "--continue_calibration") == 1
    assert "is of another method or calibration, or of other predictions (predictions was " in capsys.readouterr().err


def test_without_probabilities_and_epistemic_maps(decided, capsys):
    assert apply(decided) == 0
    for case in decided.cases["new"]:
        (decided.root / "new" / "pred" / f"{case}.npz").unlink()
        decided.map_file("new", "EU", case).unlink()
    capsys.readouterr()
    assert apply(decided) == 0
    printed = capsys.readouterr().out
    assert "left out: inner and outer masks: there are no probabilities; predict with --save_probabilities" in printed
    assert "left out: percentiles of EU_border, EU_mean: these predictions lack the maps" in printed
    assert "left out: label_next: there are no epistemic maps" in printed
    assert not [*(decided.root / "out").rglob("*.nii.gz")]  # those of before would be of another calibration
    assert {line["label_next"] for line in table(decided.root / "out" / "review.csv")} == {""}


def without_volume(record):
    record["cases"]["b"]["structures"]["nodule"].update(expected_volume_ml=None, volume_ml=None)


def other_settings(**settings):
    return lambda made: change_record(made, "new", lambda record: record["settings"].update(settings))


def new_folder(message):
    calibration = "{root}/val/pred/calibration.json"
    return f"new/pred is predicted otherwise than the validation images of {calibration}: {message}"


def without_settings(made):
    found = content(made)
    del found["settings"]
    calibration_file(made).write_text(json.dumps(found))


def without_decisions(made):
    found = content(made)
    del found["decisions"]
    calibration_file(made).write_text(json.dumps(found))


REFUSED = {
    "another model": (lambda made: write_record(made, "new", trainer="nnUNetTrainerSSN"), "different models"),
    "another spacing": (
        lambda made: write_plans(made, "new", [9.0, 1.0, 1.0]),
        "different models: spacing_mm [9.0, 1.0, 1.0] and [2.5, 0.9, 0.7]",
    ),
    "other labels": (
        lambda made: made.change_dataset("new", labels={"background": 0, "tumour": 1}),
        "the calibration was made for other labels",
    ),
    "no samples": (
        lambda made: write_record(made, "new", samples=False),
        "a: nodule: the intervals were fitted to predictions with samples",
    ),
    "no volume": (lambda made: change_record(made, "new", without_volume), "b: nodule: the intervals are of volumes"),
    "an old record": (
        lambda made: change_record(made, "new", lambda record: record["cases"]["c"].pop("structures")),
        "for 1 of 3 cases, as c",
    ),
    "another segmentation": (
        lambda made: change_record(
            made, "new", lambda record: record["cases"]["c"]["structures"]["nodule"].update(num_voxels=1)
        ),
        "c: ",
    ),
    "probabilities of some": (lambda made: (made.root / "new/pred/b.npz").unlink(), "b: no probabilities"),
    "a damaged map": (lambda made: made.map_file("new", "TU", "b").write_bytes(b"x"), "b: "),
    "damaged decisions": (
        lambda made: calibration_file(made).write_text(
            json.dumps(content(made) | {"decisions": content(made)["decisions"] | {"seed": "0"}})
        ),
        "calibration.json: decisions: seed: must be a whole number",
    ),
    "other members": (other_settings(members=5), new_folder("members is 5 and was 2; predict with the settings")),
    "another epistemic method": (other_settings(epistemic_source="dropout"), "different models: epistemic dropout and"),
    "other weights": (
        other_settings(checkpoints={"fold_0": {"sha256": "b" * 64}}),
        new_folder(f"checkpoints: fold_0: sha256 is {'b' * 64!r} and was {'a' * 64!r}"),
    ),
    "other folds": (
        other_settings(checkpoints={"fold_1": {"sha256": "b" * 64}}),
        new_folder(f"checkpoints: fold_0 is absent and was {{{{'sha256': {'a' * 64!r}}}}}; checkpoints: fold_1 is "),
    ),
    "another estimator": (other_settings(estimator="plug_in"), new_folder("estimator is 'plug_in' and was absent")),
    "another least volume": (other_settings(min_lesion_ml=0.1), new_folder("min_lesion_ml is 0.1 and was 0.0")),
    "other lesions": (
        other_settings(lesions=["nodule", "tumour"]),
        new_folder("lesions is nodule tumour and was nodule"),
    ),
    "many settings": (
        other_settings(members=5, estimator="mc", num_samples=3, step_size=0.1, views={"identity": 3}),
        new_folder(
            "estimator is 'mc' and was absent; members is 5 and was 2; num_samples is 3 and was absent and 2 mo"
        ),
    ),
    "a calibration that does not say how": (without_settings, "does not say how the validation images were predicted"),
    "a calibration without decisions": (without_decisions, "has no decisions: it is of an earlier version"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refusals_before_anything_is_written(decided, capsys, what):
    change, message = REFUSED[what]
    change(decided)
    assert apply(decided) == 1
    assert message.format(root=decided.root) in capsys.readouterr().err
    assert not [*(decided.root / "out").glob("*")]


def test_predicted_without_lesions(decided, capsys):
    change_record(decided, "new", lambda record: record["settings"].pop("lesions"))
    change_record(decided, "new", lambda record: record["settings"].pop("min_lesion_ml"))
    change_record(decided, "new", lambda record: [case.pop("lesions") for case in record["cases"].values()])
    assert apply(decided) == 0
    assert "left out: lesions of nodule: predict with --lesions as the validation images\n" in capsys.readouterr().out
    assert not (decided.root / "out" / "lesions.csv").exists()


def test_the_validation_predictions_themselves(folders, capsys):
    assert determine(folders) == 0
    assert apply(folders, "-i", folders.root / "val" / "pred") == 0
    assert f"note: the decisions were fitted to {folders.root}/val/pred itself" in capsys.readouterr().out


def test_options_that_do_not_fit(decided, capsys):
    assert apply(decided, "--alpha", 0.15) == 1
    assert "--alpha must be one of 0.05, 0.1, 0.2, got 0.15" in capsys.readouterr().err
    assert apply(decided, "--method", "platt", "--alpha", 0.1) == 1
    assert "--alpha is the share of the masks of --method decisions" in capsys.readouterr().err


@pytest.mark.parametrize("regions", [False, True])
def test_masks_of_several_structures(tmp_path, write_image, regions):
    """Each has a folder, with its label or 1 inside, so that masks may overlap."""
    rng = np.random.default_rng(0)
    shape = (2, 6, 5)
    if regions:
        labels = {"background": 0, "whole": [1, 2], "core/2": 2}
        probabilities = rng.uniform(size=(2, *shape)).astype(np.float32)
        prediction = np.where(probabilities[1] > 0.5, 2, probabilities[0] > 0.5).astype(np.uint8)
        probabilities[0][prediction == 2] = 0.9
        channels, values = probabilities, (1, 1)
    else:
        labels = {"background": 0, "whole": 1, "core/2": 2}
        probabilities = rng.dirichlet([1, 1, 1], shape).transpose(3, 0, 1, 2).astype(np.float32)
        prediction = probabilities.argmax(axis=0).astype(np.uint8)
        channels, values = probabilities[1:], (1, 2)
    write_image(tmp_path / "pred" / "a.nii.gz", prediction)
    np.savez(tmp_path / "pred" / "a.npz", probabilities=probabilities)
    evaluated = EvaluatedLabels.from_dataset_json({"labels": labels})
    thresholds = {
        "whole": Threshold(alpha=0.1, outer=0.25, inner=2.0),
        "core/2": Threshold(alpha=0.1, outer=0.0, inner=0.75),
    }
    (case,), _ = find_cases(tmp_path / "pred", None, file_ending=".nii.gz")
    (tmp_path / "out").mkdir()
    MaskFolder(tmp_path / "out", evaluated, SimpleITKIO(), thresholds).write(case)

    def mask(path):
        return sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / path)))

    np.testing.assert_array_equal(mask("outer/1_whole/a.nii.gz"), values[0] * (channels[0] >= 0.25))
    np.testing.assert_array_equal(mask("inner/1_whole/a.nii.gz"), np.zeros(shape))
    np.testing.assert_array_equal(mask("outer/2_core_2/a.nii.gz"), np.full(shape, values[1]))
    np.testing.assert_array_equal(mask("inner/2_core_2/a.nii.gz"), values[1] * (channels[1] >= 0.75))


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
def test_2d_images_have_no_volumes(tmp_path, capsys):
    """Masks of a png data set are png files; there is no interval, and all else."""
    rng = np.random.default_rng(4)
    made = {}
    for which, number in (("val", 9), ("new", 2)):
        for index in range(number):
            made[which, f"c{index}"] = _make_png_case(tmp_path / which, f"c{index}", rng)
        labels = {"labels": {"background": 0, "nodule": 1}, "file_ending": ".png"}
        (tmp_path / which / "pred" / "dataset.json").write_text(json.dumps(labels))
        entries = {}
        for (folder, case), (prediction, probability) in made.items():
            if folder == which:
                sums = {"nodule": ProbabilitySums.of(probability, prediction == 1)}
                (row,) = structure_rows(prediction, CLASSES, probabilities=sums, maps={}, voxel_ml=None)
                structure = {key: value for key, value in row.as_json().items() if key != "structure"}
                entries[case] = {"structures": {"nodule": structure}, "input_files": [f"{case}_0000.png"]}
        (tmp_path / which / "pred" / "uncertainty.json").write_text(json.dumps({"cases": entries}))
    folder = tmp_path / "val"
    options = ["-val", folder / "pred", "-gt", folder / "gt", "-np", 1, "--disable_progress_bar"]
    assert determine_calibration.main(list(map(str, options))) == 0
    assert "decisions: nodule: volume: no validation case has volumes in ml" in capsys.readouterr().out
    options = ["-i", tmp_path / "new" / "pred", "-calibration", folder / "pred" / "calibration.json", "-np", 1]
    options += ["-o", tmp_path / "out", "--method", "decisions", "--alpha", 0.2, "--disable_progress_bar"]
    assert apply_calibration.main(list(map(str, options))) == 0
    found = json.loads((folder / "pred" / "calibration.json").read_text())["decisions"]
    limits = Decisions.model_validate(found).structures["nodule"].masks.at(0.2)
    for (which, case), (_, probability) in made.items():
        if which == "new":
            for place, limit in (("inner", limits.inner), ("outer", limits.outer)):
                mask = imread(tmp_path / "out" / place / f"{case}.png")
                np.testing.assert_array_equal(mask, probability[0] >= limit)
    for line in table(tmp_path / "out" / "structures.csv"):
        assert (line["volume_ml"], line["volume_from_ml_80"]) == ("", "")
        assert 0 < float(line["predicted_dice"]) < 1
    options = ["-pred", tmp_path / "new" / "pred", "-gt", tmp_path / "new" / "gt", "-decisions", tmp_path / "out"]
    options += ["-np", 1, "-o", tmp_path / "judged", "--no_pictures", "--disable_progress_bar"]
    assert evaluate.main(list(map(str, options))) == 0
    summary = json.loads((tmp_path / "judged" / "summary.json").read_text())
    judged = summary["tasks"]["DECISIONS"]["ID"]["structures"]["nodule"]
    assert (judged["volume"], judged["lesions"], judged["raters"]) == (None, None, None)
    assert judged["masks"]["0.2"]["outer"]["num_patients"] == judged["dice"]["num_cases"] == 2
    assert judged["dice"]["baselines"].keys() == {"volume"}
    reasons = {name.partition("/")[2]: why for name, why in summary["left_out"].items() if "DECISIONS" in name}
    assert reasons == {
        "volume": "no validation case has volumes in ml of the segmentation and of a reference: 2D images have none, "
        "nor have references that label a part of the image",
        "dice/pairwise_dice": "the validation predictions had neither samples nor members to compare",
        "dice/mean_entropy": "the validation predictions had no maps of the total uncertainty",
        "dice/border_EU": "the validation predictions had no maps of the epistemic uncertainty",
        "lesions": "none were asked for; predict with --lesions",
        "raters": "no case has volumes of several annotations",
    }


def _make_png_case(folder, case, rng):
    distance = np.hypot(*(np.indices((20, 24)) - np.array([10, 12])[:, None, None]))[None]
    radius = rng.uniform(3, 7)
    probability = (1 / (1 + np.exp(distance - radius))).astype(np.float32)
    prediction = (probability > 0.5).astype(np.uint8)
    (folder / "pred").mkdir(parents=True, exist_ok=True)
    (folder / "gt").mkdir(exist_ok=True)
    imsave(folder / "pred" / f"{case}.png", prediction[0], check_contrast=False)
    imsave(folder / "gt" / f"{case}.png", (distance < radius + rng.normal())[0].astype(np.uint8), check_contrast=False)
    np.savez(folder / "pred" / f"{case}.npz", probabilities=np.stack([1 - probability, probability]))
    return prediction, probability
