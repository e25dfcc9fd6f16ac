"""Names of models by what the predict command wrote."""

import json

import pytest

from nnunet_stochastic.evaluation import check_same_model, describe_model, stand_in_mark

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
