"""Fit all decisions to validation cases: which of them, and what of them, each fit is given.

    volume      cases whose segmentation has the structure; of each patient one of them, of that one rater
    masks       outer: cases with a reference that has it; inner: with a segmentation that has it; means by patient
    dice        cases whose segmentation has it, the mean Dice over the raters; bounds: one case of each patient
    existence   all cases whose samples or members say how likely each lesion is
    scores      all cases

A new case tells whether its segmentation has the structure, so what is fitted to such cases holds for such cases: a
structure that most images lack has no narrow interval for being absent. Nothing is fitted to a structure that no
reference has. What cannot be fitted is left out with the reason; no other case, sample or structure stands in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from nnunet_stochastic.decisions.conformal import LEVELS, DiceBounds, VolumeIntervals, draw_cases, draw_rater
from nnunet_stochastic.decisions.decisions import VERSION, Decisions, Presence, StructureDecisions
from nnunet_stochastic.decisions.existence import ExistenceCalibration
from nnunet_stochastic.decisions.predicted_dice import NotFittedError, features_of, fit_dice
from nnunet_stochastic.decisions.reference_scores import ReferenceScores
from nnunet_stochastic.decisions.risk_control import ALPHAS, RiskMasks, mean_by_patient
from nnunet_stochastic.decisions.statistics import CaseStatistics, StructureStatistics
from nnunet_stochastic.io.names import counted

__all__ = ["fit_decisions"]

Found = Sequence[tuple[CaseStatistics, StructureStatistics]]


def fit_decisions(
    statistics: Iterable[CaseStatistics],
    *,
    labels: Mapping[str, Sequence[int]],
    levels: Sequence[float] = LEVELS,
    alphas: Sequence[float] = ALPHAS,
    seed: int = 0,
) -> Decisions:
    """Fit everything to validation cases; their order does not matter.

    Parameters
    ----------
    statistics
        Of cases that the model was not trained on, with references.
    labels
        The label values of each structure.
    levels, alphas
        Levels of intervals, and shares that may be outside of masks, in (0, 1).
    seed
        Seed of the draw of a case of each patient and a rater of each case.
    """
    cases = sorted(statistics, key=lambda case: case.case)
    _check(cases, labels)
    left_out: dict[str, str] = {}
    image_scores = {}
    for name in sorted({name for case in cases for name in case.image_scores}):
        if without := [case.case for case in cases if not np.isfinite(case.image_scores.get(name, np.nan))]:
            left_out[f"score {name}"] = f"{len(without)} of {counted(len(cases), 'case')} have none, as {without[0]}"
        else:
            scores = [case.image_scores[name] for case in cases]
            image_scores[name] = ReferenceScores.fit(scores, [case.patient for case in cases])
    return Decisions(
        version=VERSION,
        seed=seed,
        labels={name: [int(value) for value in values] for name, values in labels.items()},
        num_cases=len(cases),
        num_patients=len({case.patient for case in cases}),
        levels=sorted(float(level) for level in levels),
        alphas=sorted(float(alpha) for alpha in alphas),
        structures={name: _fit_structure(name, cases, levels, alphas, seed) for name in labels},
        image_scores=image_scores,
        num_samples=_number_of_samples(cases),
        left_out=left_out,
    )


def _number_of_samples(cases: Sequence[CaseStatistics]) -> int:
    numbers = {found.row.num_samples for case in cases for found in case.structures.values()}
    if len(numbers) > 1:
        raise ValueError(
            f"validation cases have {' and '.join(map(str, sorted(numbers)))} samples; predict all with the same number"
        )
    return next(iter(numbers), 0)


class _LeftOutError(Exception):
    """Why something is not fitted."""


def _fit_structure(
    name: str, cases: Sequence[CaseStatistics], levels: Sequence[float], alphas: Sequence[float], seed: int
) -> StructureDecisions:
    found = [(case, case.structures[name]) for case in cases]
    presence = _presence(found)
    segmented = [(case, of_case) for case, of_case in found if of_case.row.num_voxels > 0]
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "volume": lambda: {"volume": _fit_volume(segmented, levels, seed)},
        "masks": lambda: {"masks": _fit_masks(found, alphas)},
        "dice": lambda: _fit_dice(segmented, levels, seed),
        "existence": lambda: {"existence": _fit_existence(name, cases)},
    }
    fits: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for part, fit in parts.items():
        try:
            if presence.reference_share == 0:
                raise _LeftOutError("no validation case has the structure in a reference")
            fits |= fit()
        except _LeftOutError as reason:
            left_out[part] = str(reason)
    if not any(name in case.lesions for case in cases):
        left_out.pop("existence", None)  # not asked for
    return StructureDecisions(presence=presence, left_out=left_out, **fits)


def _presence(found: Found) -> Presence:
    has = [[size > 0 for size in of_case.reference_voxels] for _, of_case in found]
    missed = [any(sizes) for sizes, (_, of_case) in zip(has, found, strict=True) if of_case.row.num_voxels == 0]
    return Presence(
        num_cases=len(found),
        num_patients=len({case.patient for case, _ in found}),
        reference_share=float(np.mean([np.mean(sizes) for sizes in has])),
        num_not_segmented=len(missed),
        num_missed=sum(missed),
    )


def _fit_volume(segmented: Found, levels: Sequence[float], seed: int) -> VolumeIntervals:
    usable = {
        case.case: (case, of_case, known)
        for case, of_case in segmented
        if of_case.row.expected_volume_ml is not None
        and (known := [volume for volume in of_case.reference_ml if volume is not None])
    }
    if not segmented:
        raise _LeftOutError("no validation case has the structure in its segmentation")
    if not usable:
        raise _LeftOutError(
            "no validation case has volumes in ml of the segmentation and of a reference: 2D images have none, nor "
            "have references that label a part of the image"
        )
    with_samples = {name for name, (_, of_case, _) in usable.items() if of_case.row.sample_sd_ml is not None}
    if with_samples and len(with_samples) < len(usable):
        without = min(usable.keys() - with_samples)
        raise _LeftOutError(f"{without} has no samples and other cases have; predict all alike")
    drawn = draw_cases(((name, case.patient) for name, (case, _, _) in usable.items()), seed=seed)
    volumes = [usable[name][2][draw_rater(name, len(usable[name][2]), seed=seed)] for name in drawn]
    rows = [usable[name][1].row for name in drawn]
    return VolumeIntervals.fit(
        np.array(volumes),
        np.array([row.expected_volume_ml for row in rows], dtype=np.float64),
        np.array([row.sample_sd_ml for row in rows], dtype=np.float64) if with_samples else None,
        levels=levels,
        num_cases=len(usable),
    )


def _fit_masks(found: Found, alphas: Sequence[float]) -> RiskMasks:
    patients = [case.patient for case, of_case in found if of_case.outer_loss is not None]
    outer = [of_case.outer_loss for _, of_case in found if of_case.outer_loss is not None]
    inner = [of_case.inner_loss for _, of_case in found if of_case.inner_loss is not None]
    if not patients:
        raise _LeftOutError("there are no probabilities; predict with --save_probabilities")
    if len(patients) < len(found):
        without = next(case.case for case, of_case in found if of_case.outer_loss is None)
        raise _LeftOutError(f"{without} has no probabilities and other cases have; predict all alike")
    of_outer, of_inner = (mean_by_patient(np.array(losses), patients) for losses in (outer, inner))
    return RiskMasks.fit(of_outer, of_inner, alphas=alphas)


def _fit_dice(segmented: Found, levels: Sequence[float], seed: int) -> dict[str, Any]:
    usable = [(case, features_of(of_case.row, case.image_scores), of_case.mean_dice) for case, of_case in segmented]
    names = [case.case for case, _, _ in usable]
    true = [dice for _, _, dice in usable if dice is not None]  # that of a segmentation with voxels exists
    try:
        fit, predicted = fit_dice(
            [features for _, features, _ in usable], true, [case.patient for case, _, _ in usable]
        )
    except NotFittedError as error:
        raise _LeftOutError(str(error)) from None
    place = {name: index for index, name in enumerate(names)}
    drawn = [place[name] for name in draw_cases(((case.case, case.patient) for case, _, _ in usable), seed=seed)]
    return {"dice": fit, "dice_bounds": DiceBounds.fit(predicted[drawn], np.array(true)[drawn], levels=levels)}


def _fit_existence(name: str, cases: Sequence[CaseStatistics]) -> ExistenceCalibration:
    found = [(case.patient, case.lesions[name]) for case in cases if name in case.lesions]
    if without := [case.case for case in cases if name in case.lesions and np.isnan(case.lesions[name].shares).any()]:
        raise _LeftOutError(f"{without[0]} has lesions and neither samples nor members; predict with --save_samples")
    with_candidates = {lesions.has_candidates for _, lesions in found}
    if len(with_candidates) > 1:
        raise _LeftOutError(
            "the samples of some cases are there to find candidates in, of others not; predict all alike"
        )
    try:
        return ExistenceCalibration.fit(
            [lesions.shares for _, lesions in found],
            [lesions.matched for _, lesions in found],
            [patient for patient, _ in found],
            has_candidates=True in with_candidates,
        )
    except ValueError as error:
        raise _LeftOutError(str(error)) from None


def _check(cases: Sequence[CaseStatistics], labels: Mapping[str, Sequence[int]]) -> None:
    if not cases:
        raise ValueError("there is no validation case to fit to")
    if len({case.case for case in cases}) < len(cases):
        raise ValueError("two validation cases have the same name")
    for case in cases:
        if case.structures.keys() != labels.keys():
            raise ValueError(
                f"{case.case} has structures {', '.join(case.structures)}, the labels are {', '.join(labels)}"
            )
