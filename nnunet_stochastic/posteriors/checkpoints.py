"""Checkpoints of one training at the minima of a cyclic learning rate, one member each.

    p(θ) = 1/M Σ_m δ(θ - θ_m)

with θ_m the weights at the end of cycle m (snapshot ensembles: Huang et al. 2017, https://arxiv.org/abs/1704.00109;
for nnU-Net: Zhao et al. 2022, Efficient Bayesian Uncertainty Estimation for nnU-Net, https://arxiv.org/abs/2212.06278).
The weights lie in ``fold_X/cyclic/``, a file per cycle; ``fold_X/cyclic.pth`` has their epochs and SHA-256, and is
written when training has ended. The last of them is what training ended with, by which they are bound to the fold's
final checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nnunet_stochastic.checkpoints import read_checkpoint
from nnunet_stochastic.epistemic import EpistemicMethod
from nnunet_stochastic.io.hashing import file_sha256
from nnunet_stochastic.io.staging import staged_file
from nnunet_stochastic.posteriors.base import Missing, WeightPosterior, train_for_files
from nnunet_stochastic.posteriors.snapshots import require_fit, require_tensors, saved_epochs, snapshot_path

__all__ = ["CYCLIC_FILE", "CYCLIC_SNAPSHOTS", "CyclicCheckpoints", "write_cyclic_file"]

#: In the folder of a fold: the weights at the minima, and once training has finished what they are.
CYCLIC_SNAPSHOTS = "cyclic"
CYCLIC_FILE = "cyclic.pth"
_FINAL_CHECKPOINT = "checkpoint_final.pth"
_REMEDY = "restore the files of one training, or train again"


def write_cyclic_file(fold_folder: Path, epochs: Sequence[int]) -> Path:
    """Write ``cyclic.pth``: the epochs, ascending and counted from 0, and the hashes of their weights."""
    path = fold_folder / CYCLIC_FILE
    hashes = [file_sha256(snapshot_path(fold_folder, epoch, snapshots=CYCLIC_SNAPSHOTS)) for epoch in epochs]
    with staged_file(path) as staged:
        torch.save({"epochs": list(epochs), "snapshots_sha256": hashes}, staged)
    return path


class CyclicCheckpoints(WeightPosterior):
    """The weights at the minima, all of them and in their order; nothing is drawn."""

    files = (CYCLIC_FILE,)
    changes_weights = True

    def __init__(self, method: EpistemicMethod, fold_folder: Path, options: Mapping[str, Any]) -> None:
        super().__init__(method, fold_folder, options)
        self.paths = _recorded_files(fold_folder)
        """File of each member."""
        self._index = 0
        self._require_end_of_training()

    @classmethod
    def missing(cls, method: EpistemicMethod, fold_folder: Path, network: nn.Module) -> Missing | None:
        if (fold_folder / CYCLIC_FILE).is_file():
            return None
        if taken := len(saved_epochs(fold_folder, snapshots=CYCLIC_SNAPSHOTS)):
            return Missing(f"has the weights of {taken} cycles and no {CYCLIC_FILE}", "continue its training with --c")
        return Missing(
            f"has no weights of cycles ({CYCLIC_FILE})",
            train_for_files(method, network),
        )

    @classmethod
    def files_of_fold(cls, fold_folder: Path) -> list[Path]:
        return [fold_folder / CYCLIC_FILE, *_recorded_files(fold_folder)]

    @property
    def num_members(self) -> int:
        return len(self.paths)

    def of_member(self, index: int) -> CyclicCheckpoints:
        """The posterior whose ``activate`` gives the weights of the cycle with this index."""
        posterior = CyclicCheckpoints.__new__(CyclicCheckpoints)
        posterior.__dict__.update(self.__dict__, _index=index)
        return posterior

    @torch.no_grad()
    def activate(self, network: nn.Module, generator: torch.Generator) -> None:
        """Copy the weights of the member's cycle into the network.

        Raises
        ------
        ValueError
            If the network has other parameters than the one that was trained. The network is unchanged.
        """
        path = self.paths[self._index]
        weights = _read_weights(path)
        parameters = dict(network.named_parameters())
        require_fit(weights, parameters, f"{path} and {type(network).__name__}")
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])

    def _require_end_of_training(self) -> None:
        """Raise ``ValueError`` unless the last member is what the fold's training ended with."""
        final = self.fold_folder / _FINAL_CHECKPOINT
        if not final.is_file():  # of an exported model that has another checkpoint
            return
        checkpoint = read_checkpoint(final)
        # Of a moving average the checkpoint has the average, and beside it what was averaged.
        ended_with = checkpoint.get("init_args", {}).get(
            "stochastic_raw_weights", checkpoint.get("network_weights", {})
        )
        for name, weight in _read_weights(self.paths[-1]).items():
            if name not in ended_with or not torch.equal(weight, ended_with[name].float()):
                raise ValueError(
                    f"the weights of cycles in {self.paths[-1].parent} are not of the training of {final}: "
                    f"{name} differs from that of the last cycle; {_REMEDY}"
                )


def _recorded_files(fold_folder: Path) -> tuple[Path, ...]:
    """The files that ``cyclic.pth`` names, checked to be those."""
    path = fold_folder / CYCLIC_FILE
    record = read_checkpoint(path)
    epochs, hashes = record.get("epochs"), record.get("snapshots_sha256")
    if not (
        isinstance(epochs, list)
        and isinstance(hashes, list)
        and len(epochs) == len(hashes) >= 2
        and all(type(epoch) is int and epoch >= 0 for epoch in epochs)
    ):
        raise ValueError(f"{path} must have as many epochs as SHA-256 of snapshots, at least 2; {_REMEDY}")
    files = tuple(snapshot_path(fold_folder, epoch, snapshots=CYCLIC_SNAPSHOTS) for epoch in epochs)
    if missing := [str(file) for file in files if not file.is_file()]:
        raise FileNotFoundError(f"weights of {len(missing)} cycles are missing ({', '.join(missing)}); {_REMEDY}")
    for file, expected in zip(files, hashes, strict=True):
        if file_sha256(file) != expected:
            raise ValueError(f"{file} is not what {path} was written for: it is damaged or of another run; {_REMEDY}")
    return files


def _read_weights(path: Path) -> dict[str, Tensor]:
    weights = read_checkpoint(path)
    require_tensors(weights, str(path))
    return weights
