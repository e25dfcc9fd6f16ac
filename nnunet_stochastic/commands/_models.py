"""What the flags of ``_flags.add_trained_model`` and ``add_device`` name."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["device_of", "folds_of", "trained_model_folder"]


def device_of(arguments: argparse.Namespace) -> torch.device:
    """The device; ``ValueError`` where this machine does not have it."""
    import torch

    name = arguments.device
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[name]:
        raise ValueError(
            f"this machine has no {name} device that torch can use: choose another, for instance -device cpu"
        )
    return torch.device(name)


def folds_of(arguments: argparse.Namespace) -> list[int | str]:
    """The folds, numbers or ``all``."""
    return [fold if fold == "all" else int(fold) for fold in arguments.f]


def trained_model_folder(arguments: argparse.Namespace) -> Path:
    """The model's folder; ``ValueError`` where too little is named, or nnU-Net knows no such dataset."""
    if arguments.m:
        return Path(arguments.m)
    from nnunetv2.utilities.file_path_utilities import get_output_folder

    if not arguments.d or not arguments.c:
        raise ValueError("name the model with -d (dataset) and -c (configuration), or with -m (folder)")
    try:
        return Path(get_output_folder(arguments.d, arguments.tr, arguments.p, arguments.c))
    except RuntimeError as error:  # nnU-Net's own message: no such dataset, or nnUNet_results is not set
        raise ValueError(f"{error}\nor name the model's folder with -m instead") from error
