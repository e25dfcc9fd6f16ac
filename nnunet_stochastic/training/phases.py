"""Phases of a training that last a number of epochs, and fewer where the training is short.

    opening phase   min(N, ⌊E / 2⌋) epochs,      closing phase   min(N, ⌈E / 2⌉) epochs

with N the epochs it is planned for and E all epochs. The papers' phases are a few per cent of their trainings (32 of
500 epochs for the warm-up of the Probabilistic U-Net's KL divergence) and stay what they are; a training of 10 epochs
would spend all of them in it and end with a model of another loss. Opening and closing phases never overlap.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["TrainingPhase", "closing_phase", "opening_phase"]


class TrainingPhase(NamedTuple):
    """A phase as the log names it.

    Parameters
    ----------
    what
        Name of what the epochs are spent on.
    planned
        Number N of epochs that it is planned for.
    epochs
        Number of epochs that it lasts.
    """

    what: str
    planned: int
    epochs: int


def opening_phase(planned: int, num_epochs: int) -> int:
    """Epochs of a phase with which a training of ``num_epochs`` epochs begins."""
    return min(planned, num_epochs // 2)


def closing_phase(planned: int, num_epochs: int) -> int:
    """Epochs of a phase with which a training of ``num_epochs`` epochs ends."""
    return min(planned, num_epochs - num_epochs // 2)
