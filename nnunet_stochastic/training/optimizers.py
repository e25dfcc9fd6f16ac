"""Learning rates: the backbone at the schedule's, the heads at a multiple of it, and what follows at the end.

The deterministic network has converged when fine-tuning starts and the heads have not: at the backbone's 1e-4 the
variances hardly leave their initial value.

What follows at the end is a constant rate, or cosine annealing with warm restarts (Loshchilov and Hutter 2017,
https://arxiv.org/abs/1608.03983, Eq. 5 with a minimum of 0):

    α(t) = α_r ½ (1 + cos(π (t mod L) / L))

with the rate α_r of a restart and L steps per cycle, t from the first restart on. Where these rates are above that of
fine-tuning, the heads, which are trained by then, have no multiple of them: α_r is what they were fine-tuned with, or
that of the backbone if it is more.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from torch import nn

from nnunet_stochastic.networks import StochasticNetwork

__all__ = ["CosineRestartScheduler", "GroupedPolyLRScheduler", "group_parameters"]


def group_parameters(network: StochasticNetwork, head_learning_rate_factor: float) -> list[dict[str, Any]]:
    """Two groups for an optimizer: what the deterministic network has too, and what the heads add."""
    added_names = network.names_of_added_weights()
    shared: list[nn.Parameter] = []
    added: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        (added if name in added_names else shared).append(parameter)
    return [
        {"params": shared, "learning_rate_factor": 1.0},
        {"params": added, "learning_rate_factor": head_learning_rate_factor},
    ]


def _rate_at_the_end(group: dict[str, Any], rate: float, initial_lr: float) -> float:
    """Learning rate of a group where that of the backbone is ``rate`` and training has started with ``initial_lr``."""
    return max(rate, min(rate, initial_lr) * group.get("learning_rate_factor", 1.0))


class GroupedPolyLRScheduler(PolyLRScheduler):
    """nnU-Net's polynomial schedule, times each group's ``learning_rate_factor`` (1 where a group has none).

    Parameters
    ----------
    optimizer
        Optimizer with the groups that are scheduled.
    initial_lr
        Learning rate of the first step.
    max_steps
        Steps until the polynomial reaches 0.
    learning_rate_afterwards
        The constant learning rate of step ``max_steps`` and later ones; without it there are no later ones.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        initial_lr: float,
        max_steps: int,
        *,
        learning_rate_afterwards: float | None = None,
    ) -> None:
        self.learning_rate_afterwards = learning_rate_afterwards
        super().__init__(optimizer, initial_lr, max_steps)

    def step(self, current_step: int | None = None) -> None:
        step = self.ctr if current_step is None else current_step
        if self.learning_rate_afterwards is not None and step >= self.max_steps:
            for group in self.optimizer.param_groups:
                group["lr"] = _rate_at_the_end(group, self.learning_rate_afterwards, self.initial_lr)
        else:
            super().step(current_step)
            for group in self.optimizer.param_groups:
                group["lr"] *= group.get("learning_rate_factor", 1.0)
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


class CosineRestartScheduler(PolyLRScheduler):
    """Another schedule, and from a step on cosine annealing with warm restarts.

    Parameters
    ----------
    optimizer
        Optimizer with the groups that are scheduled.
    before
        Schedule of the same optimizer until the first restart.
    restart_learning_rate
        Learning rate α_r.
    first_step
        Step of the first restart, at least 0.
    steps_per_cycle
        Length L, at least 1. Steps may be fractions.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        before: PolyLRScheduler,
        restart_learning_rate: float,
        *,
        first_step: int,
        steps_per_cycle: int,
    ) -> None:
        self.before = before
        self.first_step, self.steps_per_cycle = first_step, steps_per_cycle
        super().__init__(optimizer, restart_learning_rate, steps_per_cycle)

    def step(self, current_step: float | None = None) -> None:
        step = 0 if current_step is None else current_step
        if step < self.first_step:
            self.before.step(step)
        else:
            share = (step - self.first_step) % self.steps_per_cycle / self.steps_per_cycle
            for group in self.optimizer.param_groups:
                restart = _rate_at_the_end(group, self.initial_lr, self.before.initial_lr)
                group["lr"] = restart * (1 + math.cos(math.pi * share)) / 2
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]
