"""Snapshots: a network's parameters after an epoch, one file each, such as ``fold_X/swag/epoch_0970.pth``.

What has been collected is what lies in the folder, nothing else: a training that resumes from an earlier epoch deletes
what came after it, and any subset of the files is consistent. A file holds {name: float32 tensor}, every parameter once
(nnU-Net's state dicts name the same storage up to three times). Buffers are not in it; see ``refuse_batch_norm``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from nnunet_stochastic.io.staging import remove_leftovers, staged_file

__all__ = [
    "SWAG_SNAPSHOTS",
    "delete_snapshots",
    "refuse_batch_norm",
    "require_fit",
    "require_tensors",
    "save_snapshot",
    "saved_epochs",
    "snapshot_path",
]

#: Folder of SWAG's snapshots in that of a fold.
SWAG_SNAPSHOTS = "swag"
_NAME = re.compile(r"epoch_(\d{4,})\.pth")


def snapshot_path(fold_folder: Path, epoch: int, *, snapshots: str = SWAG_SNAPSHOTS) -> Path:
    """Where the snapshot taken at the end of an epoch (the first is 0) lies, in the folder of this name."""
    return fold_folder / snapshots / f"epoch_{epoch:04d}.pth"


def save_snapshot(network: nn.Module, fold_folder: Path, epoch: int, *, snapshots: str = SWAG_SNAPSHOTS) -> None:
    """Write the parameters of a network, without DistributedDataParallel or torch.compile around it."""
    path = snapshot_path(fold_folder, epoch, snapshots=snapshots)
    path.parent.mkdir(exist_ok=True)
    weights = {
        name: parameter.detach().to("cpu", torch.float32, copy=True) for name, parameter in network.named_parameters()
    }
    with staged_file(path) as staged:
        torch.save(weights, staged)


def saved_epochs(fold_folder: Path, *, snapshots: str = SWAG_SNAPSHOTS) -> list[int]:
    """Epochs of which there is a snapshot, in their order."""
    matches = (_NAME.fullmatch(path.name) for path in (fold_folder / snapshots).glob("epoch_*.pth"))
    return sorted(int(match[1]) for match in matches if match)


def delete_snapshots(fold_folder: Path, *, from_epoch: int, snapshots: str = SWAG_SNAPSHOTS) -> None:
    """Delete the snapshots of ``from_epoch`` and later ones, and what an interruption left half-written."""
    for epoch in saved_epochs(fold_folder, snapshots=snapshots):
        if epoch >= from_epoch:
            snapshot_path(fold_folder, epoch, snapshots=snapshots).unlink()
    remove_leftovers(fold_folder / snapshots)


def refuse_batch_norm(network: nn.Module) -> None:
    """Raise ``ValueError`` if the network has a batch norm layer.

    Its running statistics belong to one set of weights; each draw would need a pass over the training data. Instance
    and group norm, which nnU-Net plans, keep none.
    """
    # The common base of BatchNorm1d, 2d, 3d and SyncBatchNorm; instance norm derives from its parent.
    names = [name for name, module in network.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if names:
        raise ValueError(
            f"snapshots hold weights, and the running statistics of batch norm would not fit them: {names[0]} and "
            f"{len(names) - 1} further layers are batch norm; plan the dataset with instance or group norm"
        )


def require_tensors(content: object, place: str) -> None:
    """Raise for anything but tensors by name."""
    if not (isinstance(content, dict) and all(isinstance(tensor, Tensor) for tensor in content.values())):
        raise ValueError(f"{place} must be tensors by name; restore it or train again")


def require_fit(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], what: str) -> None:
    """Raise unless both have the same names and shapes."""
    shapes, expected_shapes = ({name: tuple(t.shape) for name, t in each.items()} for each in (tensors, expected))
    if shapes != expected_shapes:
        name = next(n for n in {**shapes, **expected_shapes} if shapes.get(n) != expected_shapes.get(n))
        raise ValueError(
            f"{what} are not of one network: {name} is {shapes.get(name, 'absent')} in the one and "
            f"{expected_shapes.get(name, 'absent')} in the other"
        )
