"""Training that can be repeated: everything drawn in an epoch is a function of a seed, the fold and the epoch.

    state of every global generator = h(seed, fold, epoch, phase, rank)    at the start of each phase

The seed is the environment variable ``nnUNet_stochastic_seed``; without it nothing is seeded, as in nnU-Net. h is
NumPy's ``SeedSequence`` (https://numpy.org/doc/stable/reference/random/parallel.html). Phases are the initial weights,
the start of the data loaders, and the training and the validation of each epoch. nnU-Net writes checkpoints between
epochs, so a training that was interrupted repeats whole epochs after --c, and draws in them what it would have drawn.

What is the same, then, with the same data, software, hardware and number of threads and GPUs:

* on the CPU with ``nnUNet_n_proc_DA=0``, every bit of what is trained, resumed or not;
* on a GPU with ``nnUNet_n_proc_DA=0``, the initial weights, every batch and all noise. cuDNN chooses its algorithms by
  the clock and some sums have no fixed order there, so that results differ by rounding and what grows from it;
* with worker processes, nnU-Net's default, the initial weights and the noise in networks and losses. The workers draw
  with generators of their own and deliver in the order in which they finish: batches differ from run to run.

nnU-Net's own trainers know nothing of the seed. ``nnUNetTrainerDeterministic`` with ``nnUNet_stochastic_init=scratch``
is a seeded ``nnUNetTrainer``, but for raters, which it trains on where there are any.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Literal, get_args

import numpy as np
import torch
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

from nnunet_stochastic.io.names import shown

__all__ = ["SEED_VARIABLE", "Phase", "SeededTrainer", "read_seed", "seed_everything"]

#: Environment variable with the seed of a training.
SEED_VARIABLE = "nnUNet_stochastic_seed"

#: Parts of a training that are seeded one by one. Their order is part of h.
Phase = Literal["weights", "loaders", "training", "validation"]


def read_seed(environment: Mapping[str, str] = os.environ) -> int | None:
    """The seed that ``nnUNet_stochastic_seed`` gives, or ``None`` where the variable is not set.

    Raises
    ------
    ValueError
        If the variable is anything but a whole number of at least 0.
    """
    value = environment.get(SEED_VARIABLE)
    if value is None:
        return None
    if not value.isdecimal():
        raise ValueError(
            f"{SEED_VARIABLE} must be a whole number of at least 0, got {shown(value)}: set it to one, such as 0, or "
            "unset it to train without a seed"
        )
    return int(value)


def seed_everything(seed: int, fold: int | str, epoch: int, phase: Phase, *, rank: int = 0) -> None:
    """Seed the global generators of torch (CPU and all GPUs), NumPy and Python.

    Parameters
    ----------
    seed
        Seed of the training, at least 0.
    fold
        Fold of nnU-Net, a number or ``"all"``.
    epoch
        Epoch, counted from 0.
    phase
        Part of the training that is about to draw.
    rank
        Rank of the process under DistributedDataParallel. Each draws batches of its own.
    """
    fold_number = 0 if fold == "all" else int(fold) + 1
    stream = np.random.SeedSequence(seed, spawn_key=(fold_number, epoch, get_args(Phase).index(phase), rank))
    number = int(stream.generate_state(1, np.uint64)[0])
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(stream.generate_state(4))  # noqa: NPY002 nnU-Net's loaders and augmentation draw from it


class SeededTrainer(nnUNetTrainer):
    """nnU-Net's trainer, repeatable where ``nnUNet_stochastic_seed`` is set.

    The seed that a training began with is in its checkpoints, ``init_args["stochastic_seed"]``; there is none where the
    training was not seeded, or not by the same seed throughout.
    """

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int | str,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ) -> None:
        #: The seed, or ``None``.
        self.random_seed = read_seed()
        super().__init__(plans, configuration, fold, dataset_json, device)
        if self.random_seed is not None:
            self.my_init_kwargs["stochastic_seed"] = self.random_seed

    def _seed(self, phase: Phase, epoch: int) -> None:
        if self.random_seed is not None:
            seed_everything(self.random_seed, self.fold, epoch, phase, rank=self.local_rank)

    def initialize(self) -> None:
        self._seed("weights", 0)
        super().initialize()

    def get_dataloaders(self) -> tuple:
        # nnU-Net fetches a batch from each loader here and drops it. Worker processes inherit torch's generator: after
        # a resume they must not begin again with what the first epochs drew.
        self._seed("loaders", 0 if get_allowed_n_proc_DA() == 0 else self.current_epoch)
        training, validation = super().get_dataloaders()
        if self.random_seed is not None and isinstance(training, SingleThreadedAugmenter):
            self._initial_transforms = deepcopy(training.data_loader.transforms)
            for transform in _with_nested(self._initial_transforms):
                if hasattr(transform, "benchmark"):
                    # The blur would choose by the clock between two algorithms, whose results differ by rounding.
                    transform.benchmark = False
        return training, validation

    def on_train_start(self) -> None:
        super().on_train_start()
        started_with = self.my_init_kwargs.get("stochastic_seed")
        if started_with != self.random_seed and self.current_epoch < self.num_epochs:
            self.my_init_kwargs.pop("stochastic_seed", None)
            self.print_to_log_file(
                f"warning: the training that is resumed had {_named(started_with)} and goes on with "
                f"{_named(self.random_seed)}; it ends otherwise than one with either throughout"
            )
        if self.random_seed is None:
            return
        if isinstance(self.dataloader_train, SingleThreadedAugmenter):
            scope = "decides with fold and epoch over all that is drawn: initial weights, batches and noise"
        else:
            scope = (
                "decides over the initial weights and the noise in network and loss, not over the batches, which "
                "worker processes draw with generators of their own; nnUNet_n_proc_DA=0 makes batches repeatable too"
            )
        self.print_to_log_file(f"{_named(self.random_seed)} {scope}")

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self._seed("training", self.current_epoch)
        if self.random_seed is not None and isinstance(self.dataloader_train, SingleThreadedAugmenter):
            # Those of a cascade shuffle lists of their own in place: state that no generator has.
            self.dataloader_train.data_loader.transforms = deepcopy(self._initial_transforms)

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self._seed("validation", self.current_epoch)


def _with_nested(transform: object) -> Iterator[object]:
    """A transform of batchgeneratorsv2 and all those in it, by the three names under which it has others."""
    yield transform
    wrapped = [transform.transform] if hasattr(transform, "transform") else []
    for nested in (*wrapped, *getattr(transform, "transforms", ()), *getattr(transform, "list_of_transforms", ())):
        yield from _with_nested(nested)


def _named(seed: int | None) -> str:
    return f"no {SEED_VARIABLE}" if seed is None else f"{SEED_VARIABLE}={seed}"
