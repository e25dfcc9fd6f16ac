"""Which models compete for the best of a table, and which combinations of methods there are at all.

A model whose segmentation has failed may still have the best number of a column: nothing predicted has no calibration
error, and samples that fill the image are diverse. So it takes part in no rank and is never the best, where

    its Dice on the ID cases  <  half of the best Dice of the dataset, or
    its samples say nothing (``degenerate_samples``) in at least half of the ID cases.

A best is one of several: among fewer than ``LEAST_ENTRANTS`` models there is none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from nnunet_stochastic.discovery import trainers_folder
from nnunet_stochastic.epistemic import EPISTEMIC_METHODS
from nnunet_stochastic.evaluation.case_sets import ID
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun
from nnunet_stochastic.evaluation.model import without_epistemic_suffix

__all__ = ["LEAST_ENTRANTS", "UNDECOMPOSED", "failures", "is_possible"]

LEAST_ENTRANTS = 2
LEAST_SHARE_OF_BEST_DICE = 0.5
LEAST_SHARE_OF_DEGENERATE_CASES = 0.5

# "All model combinations are valid except softmax without EU" (section 3.2 of Christensen et al., Rethinking
# Uncertainty Quantification and Entanglement in Image Segmentation): absent or present, it is not missing.
UNDECOMPOSED = (("Softmax", "none"), ("Deterministic", "none"))


def failures(runs: Sequence[EvaluatedRun]) -> dict[EvaluatedRun, str]:
    """Why the segmentation of a run has failed, in words, for those of which it has.

    Parameters
    ----------
    runs
        Runs of any datasets; each is compared with those of its own.
    """
    best: dict[str, float] = {}
    for run in runs:
        if math.isfinite(dice := run.quality("dice")):
            best[run.dataset] = max(best.get(run.dataset, dice), dice)
    found = {run: _failure(run, best.get(run.dataset, math.nan)) for run in runs}
    return {run: reason for run, reason in found.items() if reason}


def _failure(run: EvaluatedRun, best_dice: float) -> str:
    reasons = []
    dice, num_cases = run.quality("dice"), run.summary["num_cases"]
    if best_dice > 0 and dice < LEAST_SHARE_OF_BEST_DICE * best_dice:
        reasons.append(f"Dice {dice:.3f} is below half of the best, {best_dice:.3f}")
    degenerate = run.summary.get("degenerate_samples", {}).get(ID, {})
    if degenerate and len(degenerate) >= LEAST_SHARE_OF_DEGENERATE_CASES * num_cases:
        reasons.append(f"all samples are empty or fill the image in {len(degenerate)} of {num_cases} cases")
    return " and ".join(reasons)


def is_possible(aleatoric: str, epistemic: str, runs: Sequence[EvaluatedRun]) -> bool:
    """Whether a model of this combination can be made, as far as the catalogue and the given runs tell.

    A method with trainers of its own, such as SWAG, needs the model's trainer with its ending: one of this package, or
    of a given run. Of a model without any known trainer nothing is known, and any method may be possible.

    Parameters
    ----------
    aleatoric, epistemic
        Names of the methods.
    runs
        All that were given.
    """
    if (aleatoric, epistemic) in UNDECOMPOSED:
        return False
    method = EPISTEMIC_METHODS.get(epistemic)
    if method is None or not method.trainer_suffix:
        return True
    own = {name for run in runs if run.aleatoric == aleatoric and (name := _trainer(run))}
    named = f"nnUNetTrainer{aleatoric}"
    if not own and named not in _shipped_trainers():
        return True
    known = {*_shipped_trainers(), *(name for run in runs if (name := _trainer(run)))}
    return any(base + method.trainer_suffix in known for base in {named, *map(without_epistemic_suffix, own)})


def _trainer(run: EvaluatedRun) -> str | None:
    model: Mapping[str, str | None] = run.summary["model"]
    return model.get("trainer")


@cache
def _shipped_trainers() -> frozenset[str]:
    """Names of this package's trainers; read from their text, for importing them imports nnU-Net."""
    texts = (path.read_text(encoding="utf-8") for path in sorted(Path(trainers_folder()).glob("*.py")))
    return frozenset(name for text in texts for name in re.findall(r"^class (nnUNetTrainer\w*)", text, re.MULTILINE))
