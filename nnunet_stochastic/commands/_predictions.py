"""What the commands that work on a folder of predictions have in common."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from nnunet_stochastic.evaluation.predicted_dataset import PredictedDataset, load_json, read_dataset

__all__ = [
    "DEFAULT_PROCESSES",
    "PredictedDataset",
    "load_json",
    "read_dataset",
    "require_processes",
    "require_writable",
]

DEFAULT_PROCESSES = min(4, os.cpu_count() or 1)


def require_writable(folder: Path) -> None:
    """Find out before the work, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"The output folder {folder} cannot be written ({error}); choose another with -o.") from error


def require_processes(number: int) -> None:
    """Check the value of -np."""
    if number < 1:
        raise ValueError(f"-np must be at least 1, got {number}.")
