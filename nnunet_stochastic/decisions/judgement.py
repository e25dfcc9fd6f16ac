"""Whether decisions held on cases that they were not fitted to: what ``evaluate`` and ``experiment`` both say of it.

    volume      share of (case, annotation) whose volume is in the interval; means over annotations, cases, patients
    masks       mean over patients of the loss of the outer and of the inner mask, and its standard error
    dice        how good the predicted Dice is, beside the baselines: ``judged_dice``
    lesions     FROC and calibration error of the existence probability: ``judged_lesions``
    raters      of cases with several annotations: coverage of their volumes, and the root of the mean variance of the
                sampled volumes over that of the annotations' volumes; 1 if they differ alike

The patient is the unit of coverage and risk: cases of a patient are averaged first (``coverage``). Only cases whose
segmentation has the structure have intervals and a predicted Dice. What does not exist is None, and ``left_out`` has
the reason. Where it is said how often a bootstrap draws each case, numbers have ``intervals``, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnunet_stochastic.decisions.coverage import coverage_by_patient
from nnunet_stochastic.decisions.decisions import AssessedStructure, Decisions, StructureDecisions
from nnunet_stochastic.decisions.intervals import CaseWeights, intervals_of, weights_of
from nnunet_stochastic.decisions.judged_dice import baseline_scores, judge_dice
from nnunet_stochastic.decisions.judged_lesions import judge_lesions
from nnunet_stochastic.decisions.risk_control import GRID, mean_by_patient
from nnunet_stochastic.decisions.statistics import CaseStatistics, StructureStatistics
from nnunet_stochastic.metrics import weighted_mean, weighted_median

__all__ = ["flattened", "judge", "shared_with_validation"]

_WITHOUT_VOLUMES = "no case has volumes in ml of its segmentation and of an annotation"


@dataclass(frozen=True)
class _Judged:
    """A structure of a case, and what the decisions say of it."""

    case: CaseStatistics
    found: StructureStatistics
    assessed: AssessedStructure

    @property
    def volumes_ml(self) -> list[float]:
        """Volumes of the annotations that have one."""
        return [volume for volume in self.found.reference_ml if volume is not None]

    def inside(self, level: float) -> np.ndarray:
        """Whether each of these volumes is in the interval, bool; empty where there is no interval."""
        if level not in self.assessed.intervals_ml:
            return np.zeros(0, dtype=bool)
        low, high = self.assessed.intervals_ml[level]
        return np.array([low <= volume <= high for volume in self.volumes_ml], dtype=bool)


def judge(
    decisions: Decisions, statistics: Iterable[CaseStatistics], *, weights: CaseWeights | None = None
) -> dict[str, Any]:
    """Judge decisions by test cases; the order of these does not matter.

    Parameters
    ----------
    decisions
        What was fitted.
    statistics
        Of the test cases, with references.
    weights
        How often each replicate of a bootstrap draws each case, (B,) by name: numbers that have no binomial interval
        then have a percentile interval in ``intervals`` beside them.

    Returns
    -------
    dict
        ``num_cases``, ``num_patients``, ``num_shared_cases`` (see ``shared_with_validation``), and for each of
        ``structures`` ``volume`` by level, ``masks`` by alpha, ``dice`` with the ``lower_bound`` by level and the
        ``baselines``, ``lesions``, ``raters``: None for what there is not, with the reason in ``left_out``; and
        ``cases``, the numbers of each case, of which these are made.
    """
    cases = sorted(statistics, key=lambda case: case.case)
    structures = {name: _structure(name, decisions, cases, weights) for name in decisions.structures}
    return {
        "num_cases": len(cases),
        "num_patients": len({case.patient for case in cases}),
        "num_shared_cases": shared_with_validation(decisions, cases),
        "structures": structures,
    }


def shared_with_validation(decisions: Decisions, cases: Iterable[CaseStatistics]) -> int:
    """Number of cases that decisions were fitted to: those whose image scores are validation cases' to the last digit.

    A case without a score above 0 is not recognised.
    """
    known = {name: set(found.scores) for name, found in decisions.image_scores.items()}

    def is_known(case: CaseStatistics) -> bool:
        scores = {name: case.image_scores[name] for name in known.keys() & case.image_scores.keys()}
        return max(scores.values(), default=0.0) > 0 and all(score in known[name] for name, score in scores.items())

    return sum(map(is_known, cases))


def _structure(
    name: str, decisions: Decisions, cases: Sequence[CaseStatistics], weights: CaseWeights | None
) -> dict[str, Any]:
    fitted, found = decisions.structures[name], []
    for case in cases:
        if name not in case.structures:
            raise ValueError(f"{case.case} has no statistics of {name}, which the decisions are of")
        try:
            assessed = decisions.assess(case.structures[name].row)
        except ValueError as error:
            raise ValueError(f"{case.case}: {error}") from None
        found.append(_Judged(case, case.structures[name], assessed))
    segmented = [each for each in found if each.found.row.num_voxels > 0]
    with_lesions = [case for case in cases if name in case.lesions]
    left_out: dict[str, str] = {}
    return {
        "num_segmented": len(segmented),
        "volume": _volume(fitted, segmented, decisions.levels, left_out, weights),
        "masks": _masks(fitted, found, left_out),
        "dice": judge_dice(
            fitted, [(each.case, each.found, each.assessed) for each in segmented], decisions.levels, left_out, weights
        ),
        "lesions": judge_lesions(
            fitted,
            [(case.patient, case.lesions[name]) for case in with_lesions],
            left_out,
            weights_of(weights, [case.case for case in with_lesions]) if weights and with_lesions else None,
        ),
        "raters": _raters(segmented, decisions.levels, left_out, weights),
        "cases": [_case(fitted, each, decisions.levels) for each in found],
        "left_out": left_out,
    }


def _volume(
    fitted: StructureDecisions,
    segmented: Sequence[_Judged],
    levels: Sequence[float],
    left_out: dict[str, str],
    weights: CaseWeights | None,
) -> dict[str, Any] | None:
    usable = [each for each in segmented if each.volumes_ml]
    if fitted.volume is None or not usable:
        left_out["volume"] = _WITHOUT_VOLUMES if fitted.volume else fitted.left_out.get("volume", "it was not fitted")
        return None
    judged: dict[str, Any] = {}
    for level in levels:
        intervals = [each.assessed.intervals_ml[level] for each in usable]
        width = np.array([high - low for low, high in intervals])
        finite = width[np.isfinite(width)]
        judged[_key(level)] = {
            **_covered(usable, level),
            "mean_width_ml": float(finite.mean()) if finite.size else None,
            "median_width_ml": float(np.median(finite)) if finite.size else None,
            "share_infinite": float(1 - finite.size / width.size),
        }
        if weights is not None:
            drawn = weights_of(weights, [each.case.case for each in usable])
            judged[_key(level)]["intervals"] = intervals_of(
                {"mean_width_ml": weighted_mean(width, drawn), "median_width_ml": weighted_median(width, drawn)}
            )
    return judged


def _covered(cases: Sequence[_Judged], level: float) -> dict[str, Any]:
    return coverage_by_patient(
        [float(each.inside(level).mean()) for each in cases], [each.case.patient for each in cases]
    )


def _masks(fitted: StructureDecisions, found: Sequence[_Judged], left_out: dict[str, str]) -> dict[str, Any] | None:
    losses: dict[str, list[np.ndarray]] = {"outer": [], "inner": []}
    patients = []
    for each in found:
        if each.found.outer_loss is not None and each.found.inner_loss is not None:
            losses["outer"].append(each.found.outer_loss)
            losses["inner"].append(each.found.inner_loss)
            patients.append(each.case.patient)
    if fitted.masks is None or not patients:
        without = "there are no probabilities; predict with --save_probabilities"
        left_out["masks"] = without if fitted.masks else fitted.left_out.get("masks", "they were not fitted")
        return None
    by_patient = {which: mean_by_patient(np.array(each), patients) for which, each in losses.items()}
    reasons = {"outer": "no annotation has the structure", "inner": "no segmentation has the structure"}
    left_out |= {f"masks/{which}": reasons[which] for which, each in by_patient.items() if not len(each)}
    judged = {}
    for threshold in fitted.masks.thresholds:
        judged[_key(threshold.alpha)] = {
            which: _risk(by_patient[which][:, _place(value)], value)
            for which, value in (("outer", threshold.outer), ("inner", threshold.inner))
        }
    return judged


def _risk(of_patients: np.ndarray, threshold: float) -> dict[str, Any]:
    """Mean of the losses of n patients, (n,), and its standard error."""
    number = len(of_patients)
    return {
        "threshold": threshold,
        "risk": float(of_patients.mean()) if number else None,
        "standard_error": float(of_patients.std(ddof=1) / np.sqrt(number)) if number > 1 else None,
        "num_patients": number,
    }


def _raters(
    segmented: Sequence[_Judged], levels: Sequence[float], left_out: dict[str, str], weights: CaseWeights | None
) -> dict[str, Any] | None:
    several = [each for each in segmented if len(each.volumes_ml) > 1]
    if not several:
        left_out["raters"] = "no case has volumes of several annotations"
        return None
    with_intervals = [each for each in several if each.assessed.intervals_ml]
    with_samples = [each for each in several if each.found.row.sample_sd_ml is not None]
    spreads = [
        (spread**2, float(np.var(each.volumes_ml, ddof=1)))
        for each in with_samples
        if (spread := each.found.row.sample_sd_ml) is not None
    ]
    sampled, given = np.mean(spreads, axis=0) if spreads else (None, None)
    if not with_intervals:
        left_out["raters/coverage"] = "volumes have no intervals"
    if not spreads:
        left_out["raters/ratio"] = "there are no whole samples; predict with --save_samples"
    elif not given:
        left_out["raters/ratio"] = "all annotations of a case have the same volume"
    return {
        "num_cases": len(several),
        "num_patients": len({each.case.patient for each in several}),
        "coverage": {_key(level): _all_covered(with_intervals, level, weights) for level in levels}
        if with_intervals
        else None,
        "sampled_sd_ml": None if sampled is None else float(np.sqrt(sampled)),
        "raters_sd_ml": None if given is None else float(np.sqrt(given)),
        "ratio": float(np.sqrt(sampled / given)) if given else None,
        **({} if weights is None or not spreads else {"intervals": _spread_intervals(with_samples, spreads, weights)}),
    }


def _all_covered(cases: Sequence[_Judged], level: float, weights: CaseWeights | None) -> dict[str, Any]:
    """Coverage of the volumes of several annotations, and how often all of a case's are inside."""
    inside = np.array([each.inside(level).all() for each in cases], dtype=np.float64)
    found = {**_covered(cases, level), "share_all_inside": float(inside.mean())}
    if weights is not None:
        drawn = weights_of(weights, [each.case.case for each in cases])
        found["intervals"] = intervals_of({"share_all_inside": weighted_mean(inside, drawn)})
    return found


def _spread_intervals(
    cases: Sequence[_Judged], variances: Sequence[tuple[float, float]], weights: CaseWeights
) -> dict[str, list[float] | None]:
    """Of the roots of the mean variances of samples and annotations, and of their ratio."""
    drawn = weights_of(weights, [each.case.case for each in cases])
    sampled, given = (np.sqrt(weighted_mean(values, drawn)) for values in np.transpose(variances))
    ratio = np.divide(sampled, given, out=np.full(len(drawn), np.nan), where=given > 0)
    return intervals_of({"sampled_sd_ml": sampled, "raters_sd_ml": given, "ratio": ratio})


def _case(fitted: StructureDecisions, each: _Judged, levels: Sequence[float]) -> dict[str, Any]:
    """What all the above is made of, of one case; an infinite end of an interval is infinite."""
    row, found, is_segmented = each.found.row, each.found, each.found.row.num_voxels > 0
    thresholds = [] if fitted.masks is None else fitted.masks.thresholds
    return {
        "case": each.case.case,
        "patient": each.case.patient,
        "segmented": is_segmented,
        "volume_ml": row.volume_ml,
        "expected_volume_ml": row.expected_volume_ml,
        "sample_sd_ml": row.sample_sd_ml,
        "reference_ml": list(found.reference_ml),
        "intervals_ml": {_key(level): list(ends) for level, ends in each.assessed.intervals_ml.items()},
        "share_inside": {_key(level): float(inside.mean()) for level in levels if len(inside := each.inside(level))},
        "dice": found.mean_dice,
        "predicted_dice": each.assessed.predicted_dice,
        "dice_at_least": {_key(level): bound for level, bound in each.assessed.dice_at_least.items()},
        "baselines": baseline_scores(fitted, each.case, found) if is_segmented else {},
        "outer_loss": {_key(each.alpha): _loss(found.outer_loss, each.outer) for each in thresholds},
        "inner_loss": {_key(each.alpha): _loss(found.inner_loss, each.inner) for each in thresholds},
    }


def _loss(losses: np.ndarray | None, threshold: float) -> float | None:
    value = np.nan if losses is None else losses[_place(threshold)]
    return None if np.isnan(value) else float(value)


def _place(threshold: float) -> int:
    return int(np.argmin(np.abs(GRID - threshold)))


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
