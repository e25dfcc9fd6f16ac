"""What the commands that work on a folder of predictions have in common."""

from __future__ import annotations

import os

from nnunet_stochastic.evaluation.predicted_dataset import PredictedDataset, read_dataset

__all__ = [
    "DEFAULT_PROCESSES",
    "PredictedDataset",
    "read_dataset",
]

DEFAULT_PROCESSES = min(4, os.cpu_count() or 1)
