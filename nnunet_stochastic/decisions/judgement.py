"""Whether decisions held on cases that they were not fitted to.

    coverage    share of (case, rater) whose volume is in the interval; means over raters, cases and patients, in turn
    risk        mean over patients of the loss of the outer and of the inner mask
    dice        |predicted - true|, Spearman's rank correlation, AURC with the risk 1 - Dice; beside the baselines
    lesions     FROC: share of the references' lesions that are found, against lesions that are none, per case;
                calibration error of the existence probability
    raters      root of mean variance of the sampled volumes over that of the raters' volumes; 1 if they differ alike

Intervals of a coverage are Clopper-Pearson's at 95 % with the patients as trials. Only cases whose segmentation has the
structure have intervals and a predicted Dice. What does not exist is None.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import beta, rankdata

from nnunet_stochastic.decisions.decisions import AssessedStructure, Decisions, StructureDecisions
from nnunet_stochastic.decisions.predicted_dice import BASELINES, FEATURES, features_of
from nnunet_stochastic.decisions.risk_control import GRID, mean_by_patient
from nnunet_stochastic.decisions.statistics import CaseStatistics, LesionStatistics, StructureStatistics
from nnunet_stochastic.metrics import aurc, expected_calibration_error, reliability_bins

__all__ = ["binomial_interval", "flattened", "froc", "judge"]

_FALSE_PER_CASE = (0.5, 1, 2, 4)
_NUM_BINS = 10

Judged = Sequence[tuple[CaseStatistics, StructureStatistics, AssessedStructure]]


def judge(decisions: Decisions, statistics: Iterable[CaseStatistics]) -> dict[str, Any]:
    """Judge decisions by test cases.

    Parameters
    ----------
    decisions
        What was fitted.
    statistics
        Of the test cases, with references.

    Returns
    -------
    dict
        ``num_cases``, ``num_patients``, and for each structure ``volume`` by level, ``masks`` by alpha, ``dice`` with
        the ``lower_bound`` by level and the ``baselines``, ``lesions``, ``raters``; None for what there is not.
    """
    cases = sorted(statistics, key=lambda case: case.case)
    structures = {}
    for name, fitted in decisions.structures.items():
        found = []
        for case in cases:
            if name not in case.structures:
                raise ValueError(f"{case.case} has no statistics of {name}, which the decisions are of")
            try:
                assessed = decisions.assess(case.structures[name].row)
            except ValueError as error:
                raise ValueError(f"{case.case}: {error}") from None
            found.append((case, case.structures[name], assessed))
        segmented = [each for each in found if each[1].row.num_voxels > 0]
        structures[name] = {
            "volume": None if fitted.volume is None else _volume(segmented, decisions.levels),
            "masks": _masks(fitted, found),
            "dice": None if fitted.dice is None else _dice(fitted, segmented, decisions.levels),
            "lesions": _lesions(fitted, [case.lesions[name] for case in cases if name in case.lesions]),
            "raters": _raters(segmented),
        }
    return {"num_cases": len(cases), "num_patients": len({case.patient for case in cases}), "structures": structures}


def binomial_interval(share: float, trials: int, *, level: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson interval of a share of the trials, which need be no whole number of them."""
    hits, tail = share * trials, (1 - level) / 2
    low = float(beta.ppf(tail, hits, trials - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, trials - hits)) if hits < trials else 1.0
    return low, high


def froc(lesions: Sequence[LesionStatistics]) -> list[dict[str, float]]:
    """Points of the FROC curve, thresholds on the share of the samples falling.

    A lesion counts from the threshold on. Sensitivity is that over all lesions of all references, false positives per
    case are a mean over cases of the mean over references; the matching is that of all lesions.
    """
    thresholds = np.unique(np.concatenate([each.shares for each in lesions] or [np.zeros(0)]))[::-1]
    total = sum(int(each.num_reference.sum()) for each in lesions)
    points = []
    for threshold in thresholds:
        hits, false = 0, 0.0
        for each in lesions:
            counted = each.matched[:, each.shares >= threshold]
            hits += int(counted.sum())
            false += float((~counted).sum(axis=1).mean())
        points.append(
            {
                "share": float(threshold),
                "sensitivity": hits / total if total else float("nan"),
                "false_per_case": false / len(lesions),
            }
        )
    return points


def _volume(segmented: Judged, levels: Sequence[float]) -> dict[str, Any] | None:
    usable = [
        (case.patient, known, assessed.intervals_ml)
        for case, of_case, assessed in segmented
        if (known := [volume for volume in of_case.reference_ml if volume is not None])
    ]
    if not usable:
        return None
    patients = [patient for patient, _, _ in usable]
    judged: dict[str, Any] = {}
    for level in levels:
        inside = [
            float(np.mean([intervals[level][0] <= volume <= intervals[level][1] for volume in volumes]))
            for _, volumes, intervals in usable
        ]
        width = np.array([intervals[level][1] - intervals[level][0] for _, _, intervals in usable])
        finite = width[np.isfinite(width)]
        judged[_key(level)] = {
            **_coverage(inside, patients),
            "mean_width_ml": float(finite.mean()) if finite.size else None,
            "median_width_ml": float(np.median(finite)) if finite.size else None,
            "share_infinite": float(1 - finite.size / width.size),
        }
    return judged


def _masks(fitted: StructureDecisions, found: Judged) -> dict[str, Any] | None:
    usable = [
        (case.patient, of_case.outer_loss, of_case.inner_loss)
        for case, of_case, _ in found
        if of_case.outer_loss is not None and of_case.inner_loss is not None
    ]
    if fitted.masks is None or not usable:
        return None
    patients = [patient for patient, _, _ in usable]
    losses = {
        "outer": mean_by_patient(np.array([outer for _, outer, _ in usable]), patients),
        "inner": mean_by_patient(np.array([inner for _, _, inner in usable]), patients),
    }
    judged = {}
    for threshold in fitted.masks.thresholds:
        entry: dict[str, Any] = {}
        for which, value in (("outer", threshold.outer), ("inner", threshold.inner)):
            of_patients = losses[which][:, int(np.argmin(np.abs(GRID - value)))]
            entry[which] = {
                "threshold": value,
                "risk": float(of_patients.mean()) if of_patients.size else None,
                "num_patients": int(of_patients.size),
            }
        judged[_key(threshold.alpha)] = entry
    return judged


def _dice(fitted: StructureDecisions, segmented: Judged, levels: Sequence[float]) -> dict[str, Any] | None:
    usable = [
        (case.patient, features_of(of_case.row), dice, assessed)
        for case, of_case, assessed in segmented
        if (dice := of_case.mean_dice) is not None
    ]
    if fitted.dice is None or not usable:
        return None
    patients = [patient for patient, _, _, _ in usable]
    true = np.array([dice for _, _, dice, _ in usable])
    predicted = np.array([assessed.predicted_dice for _, _, _, assessed in usable], dtype=np.float64)
    bounds = {}
    for level in levels if fitted.dice_bounds is not None else ():
        below = [float(assessed.dice_at_least[level] <= dice) for _, _, dice, assessed in usable]
        bounds[_key(level)] = {
            **_coverage(below, patients),
            "mean_bound": float(np.mean([assessed.dice_at_least[level] for _, _, _, assessed in usable])),
        }
    baselines = {}
    for name, model in fitted.dice.baselines.items():
        values = np.array([model.predict(features) for _, features, _, _ in usable])
        feature = (
            model.features[0]
            if model.features
            else next((each for each in BASELINES[name] if usable[0][1].get(each) is not None), None)
        )
        # The score itself orders the cases: its isotonic function has ties.
        score = (
            values if feature is None else np.array([FEATURES[feature] * (f[feature] or 0.0) for _, f, _, _ in usable])
        )
        baselines[name] = _quality(values, score, true)
    return {
        "model": fitted.dice.model.kind,
        "num_cases": len(usable),
        "num_patients": len(set(patients)),
        "mean_dice": float(true.mean()),
        **_quality(predicted, predicted, true),
        "lower_bound": bounds,
        "baselines": baselines,
    }


def _quality(predicted: np.ndarray, score: np.ndarray, true: np.ndarray) -> dict[str, float | None]:
    return {
        "mae": float(np.abs(predicted - true).mean()),
        "rank_correlation": _rank_correlation(score, true),
        "aurc": aurc(1 - true, score),
    }


def _lesions(fitted: StructureDecisions, lesions: Sequence[LesionStatistics]) -> dict[str, Any] | None:
    if not lesions:
        return None
    if any(np.isnan(each.shares).any() for each in lesions):  # neither samples nor members: nothing to sort them by
        return None
    points = froc(lesions)
    error = None
    if fitted.existence is not None and any(len(each.shares) for each in lesions):
        probability = [np.array([fitted.existence.probability(share) for share in each.shares]) for each in lesions]
        confidence = [
            np.broadcast_to(p, each.matched.shape).ravel() for p, each in zip(probability, lesions, strict=True)
        ]
        right = np.concatenate([each.matched.ravel() for each in lesions])
        error = float(
            expected_calibration_error(reliability_bins(np.concatenate(confidence), right, num_bins=_NUM_BINS))
        )
    return {
        "num_cases": len(lesions),
        "num_lesions": sum(len(each.shares) for each in lesions),
        "num_reference_lesions": sum(int(each.num_reference.sum()) for each in lesions),
        "froc": points,
        "sensitivity_at": {
            _key(allowed): max((p["sensitivity"] for p in points if p["false_per_case"] <= allowed), default=0.0)
            for allowed in _FALSE_PER_CASE
        },
        "existence_calibration_error": error,
    }


def _raters(segmented: Judged) -> dict[str, Any] | None:
    pairs = []
    for _, of_case, _ in segmented:
        known = [volume for volume in of_case.reference_ml if volume is not None]
        if len(known) > 1 and of_case.row.sample_sd_ml is not None:
            pairs.append((of_case.row.sample_sd_ml**2, float(np.var(known, ddof=1))))
    if not pairs:
        return None
    sampled, given = np.mean(pairs, axis=0)
    return {
        "num_cases": len(pairs),
        "sampled_sd_ml": float(np.sqrt(sampled)),
        "raters_sd_ml": float(np.sqrt(given)),
        "ratio": float(np.sqrt(sampled / given)) if given > 0 else None,
    }


def _coverage(shares: Sequence[float], patients: Sequence[str]) -> dict[str, Any]:
    """Mean over patients of the mean of their cases, with its interval."""
    by_patient = mean_by_patient(np.asarray(shares, dtype=np.float64), patients)
    coverage = float(by_patient.mean())
    return {
        "coverage": coverage,
        "interval": list(binomial_interval(coverage, len(by_patient))),
        "num_cases": len(shares),
        "num_patients": len(by_patient),
    }


def _rank_correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    """Spearman's, ties averaged; None where one is constant."""
    ranks = rankdata(one), rankdata(other)
    if len(one) < 2 or np.ptp(ranks[0]) == 0 or np.ptp(ranks[1]) == 0:
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def _key(number: float) -> str:
    return f"{number:g}"


def flattened(judged: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Numbers of a judgement by their path, lists left out."""
    numbers: dict[str, float] = {}
    for name, value in judged.items():
        if isinstance(value, Mapping):
            numbers |= flattened(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            numbers[f"{prefix}{name}"] = float(value)
    return numbers
