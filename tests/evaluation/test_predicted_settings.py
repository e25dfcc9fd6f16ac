"""Which settings new images may be predicted with, given those of the validation images."""

import json

import pytest

from nnunet_stochastic.evaluation.predicted_settings import check_predicted_alike, deciding_settings

SETTINGS = {
    "trainer": "nnUNetTrainerMoB",
    "checkpoints": {"fold_0": {"sha256": "a"}, "fold_1": {"sha256": "b"}},
    "members": 2,
    "estimator": "exact",
    "num_samples": 30,
    "lesions": ["tumour", "cyst"],
    "min_lesion_ml": 0.5,
    "views": {"identity": None},
    "seed": 0,
    "device": "cpu",
    "notes": ["a note"],
    "versions": {"torch": "2"},
    "maps": ["total"],
    "save_probabilities": True,
}


@pytest.fixture
def check(tmp_path):
    """Check images that were predicted with some other settings."""

    def checked(validation=SETTINGS, without=(), **changed):
        folders = {"val": dict(validation), "new": SETTINGS | changed}
        for name, settings in folders.items():
            (tmp_path / name).mkdir(exist_ok=True)
            kept = {key: value for key, value in settings.items() if name == "val" or key not in without}
            (tmp_path / name / "uncertainty.json").write_text(json.dumps({"settings": kept, "cases": {}}))
        known = deciding_settings(tmp_path / "val")
        check_predicted_alike(tmp_path / "new", known, tmp_path / "calibration.json")

    return checked


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"seed": 1, "device": "cuda", "notes": [], "versions": {}, "maps": [], "save_probabilities": False},
        {"num_samples": 5},
        {"lesions": ["cyst"]},
        {"without": ("lesions", "min_lesion_ml")},
    ],
)
def test_what_may_differ(check, changed):
    check(**changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"members": 3}, "members is 3 and was 2"),
        ({"min_lesion_ml": 0.1}, "min_lesion_ml is 0.1 and was 0.5"),
        ({"lesions": ["tumour", "node"]}, "lesions is tumour node and was tumour cyst"),
        ({"estimator": "mc", "num_samples": 5}, "estimator is 'mc' and was 'exact'; num_samples is 5 and was 30"),
        (
            {"checkpoints": {"fold_0": {"sha256": "c"}}},
            "fold_0: sha256 is 'c' and was 'a'; checkpoints: fold_1 is absent",
        ),
        ({"views": {}}, "views: identity is absent and was None"),
        ({"epistemic_factor": 2.0}, "epistemic_factor is 2.0 and was absent"),
    ],
)
def test_what_may_not(check, changed, message):
    with pytest.raises(ValueError, match="new is predicted otherwise than the validation images of ") as error:
        check(**changed)
    assert message in str(error.value)


def test_a_least_volume_counts_where_there_are_lesions_alone(check):
    of_none = {key: value for key, value in SETTINGS.items() if key not in ("lesions", "min_lesion_ml")}
    check(of_none, without=("lesions",))
    with pytest.raises(ValueError, match="lesions is tumour cyst and was none"):
        check(of_none)


def test_nothing_is_known_of_the_validation_images(tmp_path):
    with pytest.raises(ValueError, match=r"calibration\.json does not say how the validation images were predicted"):
        check_predicted_alike(tmp_path, None, tmp_path / "calibration.json")
