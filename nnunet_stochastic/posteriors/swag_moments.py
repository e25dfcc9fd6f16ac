"""The moments of T snapshots θ_1 … θ_T of one training's last epochs, of which SWAG and SWAG-D draw weights.

    mean = 1/T Σ_i θ_i,    σ² = 1/T Σ_i (θ_i - mean)²

Mean and variance are in ``fold_X/swag.pth``, with the hashes of the snapshots; deviations from the mean are computed
from the snapshots when a draw needs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nnunet_stochastic.checkpoints import read_checkpoint
from nnunet_stochastic.io.hashing import file_sha256
from nnunet_stochastic.io.staging import staged_file
from nnunet_stochastic.posteriors.snapshots import (
    require_fit,
    require_tensors,
    saved_epochs,
    snapshot_path,
)

__all__ = ["SWAG_FILE", "SwagMoments", "fit_swag"]

#: In the folder of a fold, once its training has finished.
SWAG_FILE = "swag.pth"


def fit_swag(fold_folder: Path, epochs: Sequence[int]) -> Path:
    """Write ``swag.pth`` from the snapshots of the given epochs.

    The moments are accumulated in float64 by Welford's update, without the cancellation of E[θ²] - E[θ]², one parameter
    at a time: memory holds the moments and two tensors, however many snapshots there are.

    Raises
    ------
    ValueError
        If there are fewer than two epochs, or the snapshots are damaged or not of one network.
    FileNotFoundError
        If a snapshot is missing.
    """
    if len(epochs) < 2:
        raise ValueError(f"SWAG needs at least 2 snapshots, got {len(epochs)}")
    snapshots = [_read_snapshot(snapshot_path(fold_folder, epoch)) for epoch in epochs]
    for epoch, snapshot in zip(epochs, snapshots, strict=True):
        require_fit(snapshot, snapshots[0], f"{snapshot_path(fold_folder, epoch)} and that of epoch {epochs[0]}")
    means, variances = {}, {}
    for name in snapshots[0]:
        mean = torch.zeros(snapshots[0][name].shape, dtype=torch.float64)
        squares = torch.zeros_like(mean)
        for number, snapshot in enumerate(snapshots, start=1):
            difference = snapshot[name] - mean
            mean += difference / number
            squares += difference * (snapshot[name] - mean)
        means[name] = mean.float()
        variances[name] = (squares / len(snapshots)).float()
    path = fold_folder / SWAG_FILE
    with staged_file(path) as staged:
        torch.save(
            {
                "mean": means,
                "variance": variances,
                "epochs": list(epochs),
                "snapshots_sha256": [file_sha256(snapshot_path(fold_folder, epoch)) for epoch in epochs],
            },
            staged,
        )
    return path


@dataclass(frozen=True)
class SwagMoments:
    """Moments and snapshots of one fold. Its tensors are mapped files: they cost no memory until a draw reads them."""

    folder: Path
    #: By parameter name, float32; ``variance`` is σ² and not yet clamped.
    mean: dict[str, Tensor]
    variance: dict[str, Tensor]
    #: θ_1 … θ_T, each by parameter name, float32.
    snapshots: tuple[dict[str, Tensor], ...]
    #: Of each snapshot, counted from 0.
    epochs: tuple[int, ...]

    @classmethod
    def load(cls, folder: str | Path) -> SwagMoments:
        """Open ``swag.pth`` and its snapshots.

        Parameters
        ----------
        folder
            Folder ``fold_X`` of a …SWAG trainer's results.

        Raises
        ------
        FileNotFoundError
            If the fold was not trained with SWAG, its training has not finished, or a snapshot is missing.
        ValueError
            If a file is damaged, or the files are not of one training.
        """
        folder = Path(folder)
        path = folder / SWAG_FILE
        if not path.is_file():
            taken = len(saved_epochs(folder))
            raise FileNotFoundError(
                f"{folder} has {taken} snapshots and no {SWAG_FILE}: training has not finished, continue it with --c"
                if taken
                else f"{folder} has no {SWAG_FILE}: it was not trained with SWAG, train with a …SWAG trainer"
            )
        moments = read_checkpoint(path)
        lacking = [key for key in ("mean", "variance", "epochs") if key not in moments]
        if lacking:
            raise ValueError(f"{path} holds no moments of SWAG: it has no {', '.join(lacking)}")
        for key in ("mean", "variance"):
            require_tensors(moments[key], f"{path}: {key}")
        epochs = moments["epochs"]
        if not (isinstance(epochs, list) and epochs and all(type(epoch) is int and epoch >= 0 for epoch in epochs)):
            raise ValueError(f"{path}: epochs must be numbers of at least 0, got {str(epochs)[:60]}; train again")
        require_fit(moments["variance"], moments["mean"], f"mean and variance in {path}")
        snapshots = []
        for epoch in moments["epochs"]:
            snapshot = _read_snapshot(snapshot_path(folder, epoch))
            require_fit(snapshot, moments["mean"], f"{snapshot_path(folder, epoch)} and {path}")
            snapshots.append(snapshot)
        _require_same_training(folder, moments, snapshots)
        return cls(folder, moments["mean"], moments["variance"], tuple(snapshots), tuple(epochs))

    def parameters_of(self, network: nn.Module) -> dict[str, nn.Parameter]:
        """The network's parameters by name; ``ValueError`` if they are others than those that were trained."""
        parameters = dict(network.named_parameters())
        require_fit(parameters, self.mean, f"{type(network).__name__} and {self.folder / SWAG_FILE}")
        return parameters


def _read_snapshot(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"the snapshot {path} is missing: SWAG needs all that its training took")
    snapshot = read_checkpoint(path)
    require_tensors(snapshot, str(path))
    return snapshot


def _require_same_training(folder: Path, moments: Mapping[str, Any], snapshots: Sequence[Mapping[str, Tensor]]) -> None:
    """Raise unless the snapshots are those of which the moments were made."""
    epochs = moments["epochs"]
    recorded = moments.get("snapshots_sha256")
    if recorded is None:  # written before the hashes were: no snapshot can be told from the others
        for name, mean in moments["mean"].items():
            found = torch.stack([snapshot[name] for snapshot in snapshots]).double().mean(0).float()
            if not torch.allclose(found, mean, rtol=1e-5, atol=1e-7):
                raise ValueError(
                    f"the snapshots in {snapshot_path(folder, epochs[0]).parent} are not those of which "
                    f"{folder / SWAG_FILE} was made: the mean of {name} differs. Restore the files of one training, or "
                    "train again"
                )
        return
    for epoch, expected in zip(epochs, recorded, strict=True):
        path = snapshot_path(folder, epoch)
        if file_sha256(path) != expected:
            raise ValueError(
                f"{path} is not the snapshot of which {folder / SWAG_FILE} was made: it is damaged or of another "
                "training. Restore it, or train again"
            )
