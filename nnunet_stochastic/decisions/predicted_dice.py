"""Predicted Dice of a structure from what its prediction says of itself, without a reference.

One of these, the one with the least mean absolute error on patients that it was not fitted to:

    constant    the median Dice
    isotonic    a piecewise linear, monotone function of one feature (soft Dice, pairwise Dice of samples, of members,
                relative spread), by ``sklearn.isotonic``
    linear      logit Dice = b + Σ_j w_j z_j, w_j >= 0, z_j the features times their signs, standardised;
                an elastic net whose penalty is cross-validated by patient, ``sklearn.linear_model.ElasticNetCV``

Features and the sign with which Dice grows in them, the same for every structure:

    + soft Dice 2 Σ_{n inside} p_n / (Σ_n p_n + number inside), that of the segmentation if voxels were independent
    + pairwise Dice of samples, + of members, + mean p inside, + ln volume
    - relative spread, sd of the sampled volume / expected volume, - mean AU, EU, TU on the border

so that every model is monotone in each feature. Logits are of the Dice clipped to [0.01, 0.99]. A feature that no case
has is left out; pairs of samples or members that all lack the structure count as Dice 0. Cases whose segmentation
lacks the structure are not fitted: they have no border and no mean p.
Baselines of the literature on failure detection, isotonic as well: pairwise Dice of samples (or members), mean entropy
of the image, EU on the border over its length, volume. Zenk et al., Comparative benchmarking of failure detection
methods in medical image segmentation, Medical Image Analysis 2025, https://arxiv.org/abs/2406.03323.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator
from scipy.special import expit, logit

from nnunet_stochastic.decisions.stored import Positive, Share, Stored, require
from nnunet_stochastic.decisions.structures import StructureRow

__all__ = [
    "BASELINES",
    "FEATURES",
    "MINIMUM_PATIENTS",
    "SIGNS",
    "DiceFit",
    "DiceModel",
    "NotFittedError",
    "features_of",
    "fit_dice",
]

#: Features, and the sign of Dice in them.
FEATURES: dict[str, int] = {
    "soft_dice": 1,
    "pairwise_dice_samples": 1,
    "pairwise_dice_members": 1,
    "mean_p": 1,
    "log_volume": 1,
    "relative_spread": -1,
    "AU_border": -1,
    "EU_border": -1,
    "TU_border": -1,
}
#: The same, and of the score of an image that only a baseline looks at.
SIGNS: dict[str, int] = {**FEATURES, "TU_mean": -1}
#: Features that a model may be a function of alone.
_SINGLE = ("soft_dice", "pairwise_dice_samples", "pairwise_dice_members", "relative_spread")
#: Baselines: of each the first feature that there is.
BASELINES: dict[str, tuple[str, ...]] = {
    "pairwise_dice": ("pairwise_dice_samples", "pairwise_dice_members"),
    "mean_entropy": ("TU_mean",),
    "border_EU": ("EU_border",),
    "volume": ("log_volume",),
}
#: Least number of patients that a model is fitted to.
MINIMUM_PATIENTS = 4

_NUM_FOLDS = 5
_CLIP = 0.01

Kind = Literal["constant", "isotonic", "linear"]


def features_of(row: StructureRow, image_scores: Mapping[str, float] | None = None) -> dict[str, float | None]:
    """Features of a structure that the segmentation has, and scores of baselines; None for what there is not.

    Parameters
    ----------
    row
        What the prediction says of it.
    image_scores
        Scores of its image, ``statistics.image_scores``; only a baseline looks at one of them.
    """
    volume = row.volume_ml if row.volume_ml is not None else float(row.num_voxels)
    spread, expected = row.sample_sd_ml, row.expected_volume_ml
    return {
        "soft_dice": None
        if row.mean_p is None
        else 2 * row.mean_p * row.num_voxels / (row.expected_voxels + row.num_voxels),
        "pairwise_dice_samples": (row.pairwise_dice_samples or 0.0) if row.num_samples > 1 else None,
        "pairwise_dice_members": (row.pairwise_dice_members or 0.0) if row.num_members > 1 else None,
        "mean_p": row.mean_p,
        "log_volume": float(np.log(volume)) if volume > 0 else None,
        "relative_spread": None if spread is None or not expected else spread / expected,
        **{f"{measure}_border": _on_border(row, measure) for measure in ("AU", "EU", "TU")},
        "TU_mean": (image_scores or {}).get("TU_mean"),
    }


def _on_border(row: StructureRow, measure: str) -> float | None:
    """Mean on the border; inside for a structure that fills the image and has none."""
    value = row.border.get(measure)
    return row.inside.get(measure) if value is None else value


class NotFittedError(ValueError):
    """These cases are no ground to fit a model on: too few patients, or predicted in different ways."""


class DiceModel(Stored):
    """A fitted model, as plain numbers.

    Attributes
    ----------
    kind
        Which of the three.
    features
        Names of the features it looks at.
    x, y
        Knots of the isotonic function, x ascending in the signed feature; for the constant its value alone, in y.
    mean, scale, weights, intercept
        Of the linear model: mean and sd of the signed features, weights of the standardised ones.
    """

    kind: Kind
    features: list[str] = Field(default_factory=list)
    x: list[float] = Field(default_factory=list)
    y: list[Share] = Field(default_factory=list)
    mean: list[float] = Field(default_factory=list)
    scale: list[Annotated[float, Field(gt=0)]] = Field(default_factory=list)
    weights: list[Annotated[float, Field(ge=0)]] = Field(default_factory=list)
    intercept: float = 0.0

    @model_validator(mode="after")
    def _consistent(self) -> DiceModel:
        unknown = [name for name in self.features if name not in SIGNS]
        require(not unknown, f"features must be of {', '.join(SIGNS)}, got {', '.join(unknown)[:100]}")
        lengths = [len(each) for each in (self.features, self.mean, self.scale, self.weights)]
        right = {
            "constant": not self.features and len(self.y) == 1,
            "isotonic": len(self.features) == 1 and len(self.x) == len(self.y) > 0 and _ascend(self.x, self.y),
            "linear": lengths[0] > 0 and len(set(lengths)) == 1,
        }
        require(
            right[self.kind],
            f"a {self.kind} model must have numbers for each of its features, ascending ones as knots",
        )
        return self

    def predict(self, features: Mapping[str, float | None]) -> float:
        """Dice in [0, 1] of a structure with these features."""
        if missing := [name for name in self.features if features.get(name) is None]:
            raise ValueError(
                f"the predicted Dice needs {', '.join(missing)}, which this prediction has not: predict as the "
                "validation images were predicted, with their maps, samples and members"
            )
        return float(self._of(_signed([features], self.features))[0])

    def _of(self, signed: np.ndarray) -> np.ndarray:
        """Dice (n,) of signed features (n, number of features)."""
        if self.kind == "constant":
            return np.full(len(signed), self.y[0])
        if self.kind == "isotonic":
            return np.interp(signed[:, 0], self.x, self.y)
        logits = self.intercept + ((signed - self.mean) / self.scale) @ np.asarray(self.weights)
        return expit(logits)


class DiceFit(Stored):
    """The model of a structure, and how well it and the others did on patients that they were not fitted to.

    Attributes
    ----------
    model
        The model that was chosen, fitted to all cases.
    errors
        Mean absolute error of each candidate in cross-validation.
    baselines
        Baseline models, fitted to all cases.
    num_cases, num_patients
        What it was fitted to.
    """

    model: DiceModel
    errors: dict[str, Share]
    baselines: dict[str, DiceModel]
    num_cases: Positive
    num_patients: Positive


def fit_dice(
    features: Sequence[Mapping[str, float | None]], dice: Sequence[float], patients: Sequence[str]
) -> tuple[DiceFit, np.ndarray]:
    """Choose and fit a model.

    Parameters
    ----------
    features
        Of each of N cases, all of which have the same ones.
    dice
        Dice of each case, in [0, 1].
    patients
        Patient of each case, ``MINIMUM_PATIENTS`` or more.

    Returns
    -------
    tuple[DiceFit, np.ndarray]
        The fit, and the predictions of the chosen model for each case, (N,), by models that did not see its patient.
    """
    true = np.asarray(dice, dtype=np.float64)
    names = _common(features)
    if not len(features) == len(true) == len(patients):
        raise ValueError(f"there are {len(features)} cases, {len(true)} Dice and {len(patients)} patients")
    if not ((true >= 0) & (true <= 1)).all():
        raise ValueError(f"dice must be in [0, 1], got {true.min()} to {true.max()}; leave cases without one out")
    if len(set(patients)) < MINIMUM_PATIENTS:
        raise NotFittedError(f"predicted Dice needs at least {MINIMUM_PATIENTS} patients, got {len(set(patients))}")
    # In an order that is the cases' own, so that folds do not depend on how they were listed.
    order = np.array(sorted(range(len(true)), key=lambda i: (patients[i], true[i], _key(features[i], names))))
    true, groups = true[order], np.asarray(patients, dtype=str)[order]
    ordered = [features[i] for i in order]
    signed = _signed(ordered, names)
    candidates: dict[str, tuple[Kind, list[int]]] = {"constant": ("constant", [])}
    candidates |= {name: ("isotonic", [names.index(name)]) for name in _SINGLE if name in names}
    if names:
        candidates["linear"] = ("linear", list(range(len(names))))
    held_out = {name: np.empty(len(true)) for name in candidates}
    for train, test in _folds(groups):
        for name, (kind, columns) in candidates.items():
            model = _fit(kind, signed[train][:, columns], true[train], groups[train], [names[c] for c in columns])
            # Of those that vary in the fold's training cases, and not in the held-out ones alone.
            held_out[name][test] = model._of(signed[test][:, [names.index(feature) for feature in model.features]])
    errors = {name: float(np.abs(found - true).mean()) for name, found in held_out.items()}
    chosen = min(errors, key=lambda name: errors[name])

    def fitted(kind: Kind, of: list[str]) -> DiceModel:
        return _fit(kind, _signed(ordered, of), true, groups, of)

    # A score that some cases lack is no baseline, and no reason to fit nothing.
    known = [name for name in SIGNS if all(each.get(name) is not None for each in features)]
    baselines = {name: next((f for f in of if f in known), None) for name, of in BASELINES.items()}
    fit = DiceFit(
        model=fitted(candidates[chosen][0], [names[column] for column in candidates[chosen][1]]),
        errors=errors,
        baselines={name: fitted("isotonic", [feature]) for name, feature in baselines.items() if feature is not None},
        num_cases=len(true),
        num_patients=len(set(patients)),
    )
    predictions = np.empty(len(true))
    predictions[order] = held_out[chosen]
    return fit, predictions


def _fit(kind: Kind, signed: np.ndarray, dice: np.ndarray, groups: np.ndarray, names: list[str]) -> DiceModel:
    # Here: they take seconds, and every worker imports this module.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.isotonic import IsotonicRegression
    from sklearn.linear_model import ElasticNetCV

    constant = DiceModel(kind="constant", y=[float(np.median(dice))])
    scale = signed.std(axis=0)
    varies = scale > 1e-12 * (1 + np.abs(signed).max(axis=0, initial=0))
    if kind == "constant" or not varies.any() or np.ptp(dice) == 0:
        return constant
    if kind == "isotonic":
        # Averaged over ties first, so that a value has one prediction.
        isotonic = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(signed[:, 0], dice)
        x, y = isotonic.X_thresholds_, isotonic.y_thresholds_
        return DiceModel(kind=kind, features=names, x=x.tolist(), y=np.clip(y, 0, 1).tolist())
    signed, mean, scale = signed[:, varies], signed[:, varies].mean(axis=0), scale[varies]
    if len(set(groups)) < 2:
        return constant
    net = ElasticNetCV(l1_ratio=0.5, alphas=20, positive=True, cv=list(_folds(groups)), max_iter=5000)
    with warnings.catch_warnings():
        # Of a path of penalties through features that are nearly the same; how good its end is, other patients tell.
        warnings.simplefilter("ignore", ConvergenceWarning)
        net.fit((signed - mean) / scale, logit(np.clip(dice, _CLIP, 1 - _CLIP)))
    return DiceModel(
        kind=kind,
        features=[name for name, kept in zip(names, varies, strict=True) if kept],
        mean=mean.tolist(),
        scale=scale.tolist(),
        weights=np.maximum(net.coef_, 0).tolist(),
        intercept=float(net.intercept_),
    )


def _ascend(*numbers: Sequence[float]) -> bool:
    return all(sorted(each) == list(each) for each in numbers)


def _folds(groups: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import GroupKFold

    number = min(_NUM_FOLDS, len(set(groups.tolist())))
    return list(GroupKFold(number).split(groups, groups=groups))


def _common(features: Sequence[Mapping[str, float | None]]) -> list[str]:
    """Features that the cases have; some having one that others have not is an error."""
    names = []
    for name in FEATURES:
        have = [each.get(name) is not None for each in features]
        if any(have) and not all(have):
            raise NotFittedError(
                f"{have.count(False)} of {len(have)} cases have no {name}, others have; predict all alike"
            )
        if any(have):
            names.append(name)
    return names


def _signed(features: Sequence[Mapping[str, float | None]], names: Sequence[str]) -> np.ndarray:
    values = [[SIGNS[name] * float(each[name] or 0.0) for name in names] for each in features]
    return np.array(values, dtype=np.float64).reshape(len(features), len(names))


def _key(features: Mapping[str, float | None], names: Sequence[str]) -> tuple[float, ...]:
    return tuple(float(features[name] or 0.0) for name in names)
