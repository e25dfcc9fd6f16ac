"""Learning rates: the backbone at the schedule's, the heads at a multiple of it.

The deterministic network has converged when fine-tuning starts and the heads have not: at the backbone's 1e-4 the
variances hardly leave their initial value.
"""

from __future__ import annotations

from typing import Any

from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

from nnunet_stochastic.networks import StochasticNetwork

__all__ = ["GroupedPolyLRScheduler", "group_parameters"]


def group_parameters(network: StochasticNetwork, head_learning_rate_factor: float) -> list[dict[str, Any]]:
    """Two groups for an optimizer: what the deterministic network has too, and what the heads add."""
    added_names = network.names_of_added_weights()
    shared, added = [], []
    for name, parameter in network.named_parameters():
        (added if name in added_names else shared).append(parameter)
    return [
        {"params": shared, "learning_rate_factor": 1.0},
        {"params": added, "learning_rate_factor": head_learning_rate_factor},
    ]


class GroupedPolyLRScheduler(PolyLRScheduler):
    """nnU-Net's polynomial schedule, times each group's ``learning_rate_factor``."""

    def step(self, current_step: int | None = None) -> None:
        super().step(current_step)
        for group in self.optimizer.param_groups:
            group["lr"] *= group["learning_rate_factor"]
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]
