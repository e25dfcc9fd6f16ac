"""What an evaluation says of decisions: whether intervals, masks, predicted Dice and lesions held on its cases."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nnunet_stochastic.decisions.review import REVIEW_LEVEL
from nnunet_stochastic.evaluation.case_sets import ID
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun

__all__ = ["judged_sets", "judgement_of", "level_key"]

_TASK = "DECISIONS"


def judgement_of(result: EvaluatedRun) -> Mapping[str, Any]:
    """What summary.json says of decisions; empty where the evaluation was of none."""
    return result.entry(_TASK)


def judged_sets(result: EvaluatedRun) -> dict[str, Mapping[str, Mapping[str, Any]]]:
    """Judgement of each structure, by set; empty where the evaluation was of no decisions."""
    entry = judgement_of(result)
    sets = {ID: entry.get(ID), **(entry.get("shifts") or {})}
    return {name: found["structures"] for name, found in sets.items() if found}


def level_key(entry: Mapping[str, Any], level: float = REVIEW_LEVEL) -> str | None:
    """Key of a level, or of a share, in a judgement; ``None`` where it was not judged."""
    return next((key for key in entry if math.isclose(float(key), level)), None)
