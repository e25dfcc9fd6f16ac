"""Predicted Dice: monotone in every feature, the same after JSON and in any order, better than a constant."""

import json

import numpy as np
import pytest

from nnunet_stochastic.decisions.predicted_dice import FEATURES, SIGNS, DiceFit, DiceModel, features_of, fit_dice
from nnunet_stochastic.decisions.structures import StructureRow


def cases(rng, number=60, names=tuple(FEATURES), noise=0.05):
    """Dice that follows a hidden quality, which every feature shows with its own noise."""
    quality = rng.normal(size=number)
    dice = np.clip(1 / (1 + np.exp(-1.5 - quality)) + rng.normal(0, noise, number), 0, 1)
    features = [
        {name: float(SIGNS[name] * (q + rng.normal(0, 0.7))) if name in names else None for name in SIGNS}
        for q in quality
    ]
    return features, dice, [f"patient{i // 2}" for i in range(number)]


def test_several_features_are_better_than_one_and_than_none():
    rng = np.random.default_rng(0)
    features, dice, patients = cases(rng)
    fit, held_out = fit_dice(features, dice, patients)
    assert fit.model.kind == "linear"
    assert fit.errors["linear"] == pytest.approx(np.abs(held_out - dice).mean())
    assert fit.errors["linear"] < 0.9 * min(error for name, error in fit.errors.items() if name != "linear")
    assert fit.errors["constant"] == pytest.approx(np.abs(dice - np.median(dice)).mean(), rel=0.1)
    assert (fit.num_cases, fit.num_patients) == (60, 30)
    assert fit.baselines["pairwise_dice"].features == ["pairwise_dice_samples"]
    assert fit.baselines.keys() == {"pairwise_dice", "border_EU", "volume"}
    assert fit.baselines["border_EU"].features == ["EU_border"]
    # On cases that it never saw, as in cross-validation.
    others, true, _ = cases(np.random.default_rng(1), 400)
    error = np.abs([fit.model.predict(each) for each in others] - true).mean()
    assert error == pytest.approx(fit.errors["linear"], rel=0.3)


def test_a_score_of_the_image_is_a_baseline_and_no_feature():
    features, dice, patients = cases(np.random.default_rng(3))
    of_image = [{**each, "TU_mean": 1 - true} for each, true in zip(features, dice, strict=True)]
    fit, held_out = fit_dice(of_image, dice, patients)
    assert [fit.baselines["mean_entropy"].predict(each) for each in of_image] == pytest.approx(list(dice))
    without, same = fit_dice(features, dice, patients)
    assert (fit.model, held_out.tolist()) == (without.model, same.tolist())
    lacking, _ = fit_dice([features[0], *of_image[1:]], dice, patients)
    assert lacking.baselines == without.baselines


def test_held_out_predictions_do_not_see_the_patient():
    """A patient whose Dice changes has the same predictions."""
    features, dice, patients = cases(np.random.default_rng(2), 20, ("TU_border",))
    for each in features:
        each["TU_border"] = 0.3  # nothing to go by: the median of the others
    fit, held_out = fit_dice(features, dice, patients)
    assert fit.model.kind == "constant"
    changed = dice.copy()
    changed[:2] = 1 - changed[:2]
    _, again = fit_dice(features, changed, patients)
    np.testing.assert_array_equal(again[:2], held_out[:2])


@pytest.mark.parametrize("names", [("TU_border",), ("pairwise_dice_members", "mean_p"), tuple(FEATURES)])
def test_monotone_in_every_feature(names):
    rng = np.random.default_rng(3)
    features, dice, patients = cases(rng, 30, names, noise=0.2)
    fit, _ = fit_dice(features, dice, patients)
    for model in (fit.model, *fit.baselines.values()):
        for name in names:
            at = dict(features[0])
            predictions = []
            for value in np.linspace(-4, 4, 50):
                at[name] = FEATURES[name] * float(value)
                predictions.append(model.predict(at))
            assert (np.diff(predictions) >= 0).all()
            assert 0 <= predictions[0] <= predictions[-1] <= 1


def test_a_feature_that_shows_the_contrary_is_not_used():
    features, dice, patients = cases(np.random.default_rng(4), 40, ("EU_border",))
    for each in features:
        each["EU_border"] *= -1
    fit, _ = fit_dice(features, dice, patients)
    assert fit.model.predict({"EU_border": -3.0}) == pytest.approx(fit.model.predict({"EU_border": 3.0}), abs=1e-12)


def test_json_and_order():
    rng = np.random.default_rng(5)
    features, dice, patients = cases(rng, 41, noise=0.1)
    fit, held_out = fit_dice(features, dice, patients)
    again = DiceFit.model_validate(json.loads(json.dumps(fit.model_dump(mode="json"), allow_nan=False)))
    assert again == fit
    assert [again.model.predict(each) for each in features] == [fit.model.predict(each) for each in features]
    order = rng.permutation(41)
    shuffled, predictions = fit_dice([features[i] for i in order], dice[order], [patients[i] for i in order])
    assert shuffled == fit
    np.testing.assert_array_equal(predictions, held_out[order])


def test_degenerate():
    features, dice, patients = cases(np.random.default_rng(6), 12)
    fit, held_out = fit_dice(features, np.full(12, 0.8), patients)
    assert fit.model == DiceModel(kind="constant", y=[0.8])
    assert (held_out == 0.8).all()
    fit, _ = fit_dice([{}] * 12, dice, patients)
    assert fit.model.predict({}) == np.median(dice)
    assert fit.baselines == {}
    fit, _ = fit_dice(features, dice, [str(i % 4) for i in range(12)])
    assert fit.num_patients == 4
    with pytest.raises(ValueError, match="at least 4 patients, got 1"):
        fit_dice(features, dice, ["one"] * 12)
    with pytest.raises(ValueError, match="1 of 12 cases have no EU_border"):
        fit_dice([*features[1:], {**features[0], "EU_border": None}], dice, patients)
    with pytest.raises(ValueError, match=r"dice must be in \[0, 1\]"):
        fit_dice(features, [np.nan, *dice[1:]], patients)
    with pytest.raises(ValueError, match="needs TU_border"):
        DiceModel(kind="isotonic", features=["TU_border"], x=[0.0], y=[0.5]).predict({"TU_border": None})


def test_features_of_a_row():
    row = StructureRow("liver", 10, 12.0, 2.0, 1.8, 0.9, {}, {"EU": 0.1, "TU": 0.4}, num_samples=3, sample_sd_ml=0.45)
    assert features_of(row) == {
        "soft_dice": 2 * 9 / 22,
        "relative_spread": 0.25,
        "pairwise_dice_samples": 0.0,
        "pairwise_dice_members": None,
        "mean_p": 0.9,
        "log_volume": np.log(2),
        "AU_border": None,
        "EU_border": 0.1,
        "TU_border": 0.4,
        "TU_mean": None,
    }
    assert features_of(row, {"TU_mean": 0.02, "AU_mean": 0.01})["TU_mean"] == 0.02
    fills = StructureRow("liver", 10, 9.0, border={"TU": None}, inside={"TU": 0.2}, num_members=2)
    assert (features_of(fills)["TU_border"], features_of(fills)["pairwise_dice_members"]) == (0.2, 0.0)
    assert features_of(fills)["log_volume"] == np.log(10)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "constant", "y": []},
        {"kind": "isotonic", "features": ["mean_p"], "x": [0.0, 1.0], "y": [0.5]},
        {"kind": "isotonic", "features": ["mean_p"], "x": [0.0, 1.0], "y": [0.5, 0.4]},
        {"kind": "isotonic", "features": ["entropy"], "x": [0.0], "y": [0.5]},
        {"kind": "linear", "features": ["mean_p"], "mean": [0.0], "scale": [1.0], "weights": []},
        {"kind": "linear", "features": ["mean_p"], "mean": [0.0], "scale": [1.0], "weights": [-1.0]},
        {"kind": "linear", "features": ["mean_p"], "mean": [0.0], "scale": [0.0], "weights": [1.0]},
    ],
)
def test_a_damaged_model_is_not_read(wrong):
    with pytest.raises(ValueError, match=r"must|should"):
        DiceModel.model_validate(wrong)


@pytest.mark.parametrize("constant", [0.0, None])
def test_features_that_do_not_vary_in_a_fold_are_left_out_of_it(constant):
    """As members that never agree on a small structure, or on that of one patient alone."""
    rng = np.random.default_rng(0)
    features = [
        {"soft_dice": rng.random(), "pairwise_dice_members": float(i == 0) if constant is None else constant}
        for i in range(30)
    ]
    dice = [0.5 + 0.4 * each["soft_dice"] for each in features]
    fit, predictions = fit_dice(features, dice, [f"p{i}" for i in range(30)])
    assert np.abs(predictions - dice).mean() < 0.03
    assert set(fit.model.features) <= {"soft_dice", "pairwise_dice_members"}
