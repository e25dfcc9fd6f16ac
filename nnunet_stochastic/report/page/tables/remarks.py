"""What a reader of the tables must know: models whose segmentation has failed, and what was left out."""

from __future__ import annotations

from collections.abc import Sequence

from nnunet_stochastic.evaluation.entrants import failures
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun

__all__ = ["failed_models", "left_out"]


def failed_models(results: Sequence[EvaluatedRun]) -> list[str]:
    """A line for each model whose segmentation has failed."""
    return [
        f"The segmentation of {result.label} has failed ({reason}), so that it is never the best."
        for result, reason in failures(results).items()
    ]


def left_out(results: Sequence[EvaluatedRun]) -> list[tuple[str, str, list[str]]]:
    """Task, reason, and the models that it was left out of."""
    models: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for task, reason in result.summary["left_out"].items():
            models.setdefault((task, str(reason)), []).append(result.label)
    return [(task, reason, labels) for (task, reason), labels in models.items()]
