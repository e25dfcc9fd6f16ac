"""Names of models by what the predict command wrote."""

import json

import pytest

from nnunet_stochastic.evaluation import check_same_model, describe_model, stand_in_mark
from nnunet_stochastic.evaluation.model import model_title, named_as_said

TRAINERS = [
    ("nnUNetTrainer", "model", "ensemble", "Softmax / ensemble"),
    ("nnUNetTrainerMoBVolumeSWAG", "model", "swag", "MoBVolume / swag"),
    ("nnUNetTrainerSSNDropout", "model", "dropout", "SSN / dropout"),
    ("nnUNetTrainerProbUNet", "model", "aleatoric_samples", "ProbUNet / none"),
    ("nnUNetTrainer", "tta", "aleatoric_samples", "TTA / none"),
    ("nnUNetTrainerDeterministicSWAG", "none", "swag_diag", "Deterministic / swag_diag"),
    ("nnUNetTrainerMoB", "model", "of_a_later_version", "MoB / of_a_later_version"),
    ("nnUNetTrainer", "none", "none", "Softmax / none"),  # no epistemic map, and so nothing that stands in for it
]


@pytest.mark.parametrize(("trainer", "aleatoric", "epistemic", "name"), TRAINERS)
def test_names(tmp_path, trainer, aleatoric, epistemic, name):
    settings = {
        "trainer": trainer,
        "configuration": "2d",
        "checkpoints": {"fold_1": {}, "fold_0": {}},
        "aleatoric_source": aleatoric,
        "epistemic_source": epistemic,
        "members": 7,
        "seed": 3,
    }
    (tmp_path / "uncertainty.json").write_text(json.dumps({"settings": settings, "cases": {}}))
    (tmp_path / "plans.json").write_text(json.dumps({"dataset_name": "Dataset501_Nodules"}))
    found = describe_model(tmp_path)
    assert found["name"] == name
    assert f"{found['aleatoric']} / {found['epistemic']}" == name
    assert (found["dataset"], found["configuration"], found["folds"]) == ("Dataset501_Nodules", "2d", [0, 1])
    assert (found["members"], found["seed"]) == (7, 3)
    assert found["epistemic_is_stand_in"] is (epistemic == "aleatoric_samples")
    assert stand_in_mark(found) == (" †" if epistemic == "aleatoric_samples" else "")


@pytest.mark.parametrize(
    ("data", "epistemic", "title"),
    [
        ("same", "deep_ensemble", "MoB / Deep ensemble (same data)"),
        ("different", "cross_validation", "MoB / Cross-validation folds (different data)"),
        ("unknown", "ensemble", "MoB / Folds (splits unknown)"),
        (None, "ensemble", "MoB / Folds (splits unknown)"),  # of an earlier version
    ],
)
def test_folds_are_named_for_what_they_are(tmp_path, data, epistemic, title):
    settings = {"trainer": "nnUNetTrainerMoB", "epistemic_source": "ensemble", "training_data_of_folds": data}
    (tmp_path / "uncertainty.json").write_text(json.dumps({"settings": settings, "cases": {}}))
    found = describe_model(tmp_path)
    assert (found["epistemic"], found["training_data_of_folds"]) == (epistemic, data)
    assert model_title(found["aleatoric"], found["epistemic"]) == title
    settings |= {"trainer": "nnUNetTrainerMoBSWAG", "epistemic_source": "swag"}
    (tmp_path / "uncertainty.json").write_text(json.dumps({"settings": settings, "cases": {}}))
    assert (describe_model(tmp_path)["epistemic"], describe_model(tmp_path)["training_data_of_folds"]) == ("swag", data)


def test_a_table_of_runs_cannot_turn_folds_into_what_they_are_not():
    for recorded, called, name in (
        ("deep_ensemble", "ensemble", "deep_ensemble"),
        ("cross_validation", "ensemble", "cross_validation"),
        ("ensemble", "deep_ensemble", "deep_ensemble"),
        ("cross_validation", "five folds", "five folds"),
        ("none", "deep_ensemble", "deep_ensemble"),
    ):
        assert named_as_said({"epistemic": recorded, "seed": "1"}, {"epistemic": called}, "here") == {
            "epistemic": name,
            "seed": "1",
        }
    with pytest.raises(ValueError, match=r"/here has the epistemic method cross_validation.* and not deep_ensemble"):
        named_as_said({"epistemic": "cross_validation"}, {"epistemic": "deep_ensemble"}, "/here")


def test_predictions_of_a_deep_ensemble_are_not_evaluated_with_those_of_a_cross_validation():
    known = {"epistemic": "deep_ensemble"}
    check_same_model(known, "/here", {"epistemic": "ensemble"}, "/there")
    with pytest.raises(ValueError, match="different models: epistemic deep_ensemble and cross_validation"):
        check_same_model(known, "/here", {"epistemic": "cross_validation"}, "/there")


def test_different_models_are_refused_as_far_as_known(tmp_path):
    known = dict.fromkeys(("dataset", "trainer", "configuration", "aleatoric", "epistemic")) | {"trainer": "A"}
    check_same_model(known, tmp_path, known | {"trainer": None}, tmp_path)
    with pytest.raises(ValueError, match="/here and /there come from different models: trainer A and B"):
        check_same_model(known, "/here", known | {"trainer": "B"}, "/there")


def test_plans_and_spacing_belong_to_the_model(tmp_path):
    settings = {"trainer": "nnUNetTrainerMoB", "configuration": "3d_large"}
    (tmp_path / "uncertainty.json").write_text(json.dumps({"settings": settings, "cases": {}}))
    plans = {
        "plans_name": "nnUNetPlans",
        "configurations": {
            "3d_fullres": {"spacing": [2.5, 0.75, 0.75]},
            "3d_large": {"inherits_from": "3d_fullres"},
            "of itself": {"inherits_from": "of itself"},
        },
    }
    (tmp_path / "plans.json").write_text(json.dumps(plans))
    found = describe_model(tmp_path)
    assert (found["plans"], found["spacing_mm"]) == ("nnUNetPlans", [2.5, 0.75, 0.75])
    with pytest.raises(ValueError, match=r"spacing_mm \[2.5, 0.75, 0.75\] and \[1, 1, 1\]"):
        check_same_model(found, "/here", found | {"spacing_mm": [1, 1, 1]}, "/there")
    with pytest.raises(ValueError, match="plans nnUNetPlans and nnUNetResEncUNetMPlans"):
        check_same_model(found, "/here", found | {"plans": "nnUNetResEncUNetMPlans"}, "/there")
    settings["configuration"] = "of itself"
    (tmp_path / "uncertainty.json").write_text(json.dumps({"settings": settings, "cases": {}}))
    assert describe_model(tmp_path)["spacing_mm"] is None


def test_predictions_of_nnunets_own_command(tmp_path):
    assert set(describe_model(tmp_path).values()) == {None}
    assert stand_in_mark(describe_model(tmp_path)) == ""
