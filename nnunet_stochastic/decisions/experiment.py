"""How decisions hold over many random divisions of annotated cases into validation and test, by patient.

Of each division everything is fitted to the validation patients (``fitting``) and judged by the test patients
(``judgement``); each number of the judgement is given as its mean over the divisions, their standard deviation, and the
number of divisions in which it exists. Divisions share patients, so that sd / sqrt(number) would be too small an error
of the mean: the sd says how one division may come out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnunet_stochastic.decisions.conformal import LEVELS
from nnunet_stochastic.decisions.fitting import fit_decisions
from nnunet_stochastic.decisions.judgement import flattened, judge
from nnunet_stochastic.decisions.risk_control import ALPHAS
from nnunet_stochastic.decisions.statistics import CaseStatistics

__all__ = ["split_experiment"]


def split_experiment(
    statistics: Sequence[CaseStatistics],
    *,
    labels: Mapping[str, Sequence[int]],
    num_splits: int = 200,
    levels: Sequence[float] = LEVELS,
    alphas: Sequence[float] = ALPHAS,
    validation_share: float = 0.5,
    seed: int = 0,
) -> dict[str, Any]:
    """Fit and judge on random divisions of the patients.

    Parameters
    ----------
    statistics
        Of all cases; their order does not matter.
    labels
        The label values of each structure.
    num_splits
        Number of divisions, at least 1.
    levels, alphas
        Levels of intervals, and shares of the masks.
    validation_share
        Share of the patients that are fitted to, in (0, 1); at least one is left for the test, and one fitted to.
    seed
        Seed of the divisions, and of the draws in each.

    Returns
    -------
    dict
        What was done, and ``results``: by the path of a number in the judgement its ``mean``, ``sd`` (``None`` for one
        division), and ``num_splits``.
    """
    cases = sorted(statistics, key=lambda case: case.case)
    patients = sorted({case.patient for case in cases})
    if len(patients) < 2:
        raise ValueError(f"a division into validation and test needs at least 2 patients, got {len(patients)}")
    if num_splits < 1 or not 0 < validation_share < 1:
        raise ValueError(
            f"num_splits must be at least 1 and validation_share in (0, 1), got {num_splits} and {validation_share}"
        )
    num_validation = min(max(1, round(validation_share * len(patients))), len(patients) - 1)
    generator = np.random.default_rng(seed)
    found: dict[str, list[float]] = {}
    for split in range(num_splits):
        drawn = {patients[index] for index in generator.permutation(len(patients))[:num_validation]}
        decisions = fit_decisions(
            [case for case in cases if case.patient in drawn],
            labels=labels,
            levels=levels,
            alphas=alphas,
            seed=seed + split,
        )
        judged = judge(decisions, [case for case in cases if case.patient not in drawn])
        for name, value in flattened(judged["structures"]).items():
            if np.isfinite(value):
                found.setdefault(name, []).append(value)
    return {
        "num_splits": num_splits,
        "num_cases": len(cases),
        "num_validation_patients": num_validation,
        "num_test_patients": len(patients) - num_validation,
        "seed": seed,
        "levels": sorted(levels),
        "alphas": sorted(alphas),
        "results": {
            name: {
                "mean": float(np.mean(values)),
                "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
                "num_splits": len(values),
            }
            for name, values in found.items()
        },
    }
