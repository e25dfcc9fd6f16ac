"""How long a training will take, from nnU-Net's logs: epochs that are left x median time of an epoch.

The time is that of the trainer's own logs, in any fold, else that of other trainers of the same dataset, plans and
configuration. The number of epochs is what an earlier training of the trainer noted, else what its class says. The
validation behind the last epoch is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from nnunet_stochastic.io.text import read_json_if_complete
from nnunet_stochastic.study.job import Job

__all__ = ["minutes_by_logs", "other_trained_models"]

_TIME = re.compile(r"Epoch time: (\d+(?:\.\d+)?) s")
_NUMBER = re.compile(r": Epoch (\d+)")


def minutes_by_logs(job: Job, epochs: Mapping[str, int]) -> float | None:
    """Minutes of a training; None for other jobs, and where no log or no number of epochs is known.

    Parameters
    ----------
    job
        Job whose first product is RESULTS/DATASET/TRAINER__PLANS__CONFIGURATION/fold_X/checkpoint_final.pth.
    epochs
        Number of epochs by trainer, as far as its class says it.
    """
    if job.kind != "train" or not job.products:
        return None
    fold = job.products[0].parent
    model = fold.parent
    times = _epoch_times(model) or [time for other in _alike(model) for time in _epoch_times(other)]
    number = _noted_epochs(model) or epochs.get(job.trainer)
    if not times or number is None:
        return None
    done = _last_epoch(fold) if (fold / "checkpoint_latest.pth").is_file() else 0
    return max(number - done, 0) * median(times) / 60


def other_trained_models(jobs: Mapping[Any, Job]) -> dict[str, list[str]]:
    """Trained folds, by model, of the datasets of a study that still has to train, and that no job of it makes."""
    made = {job.products[0].parent for job in jobs.values() if job.kind == "train" and job.products}
    found: dict[str, list[str]] = {}
    for dataset in sorted({fold.parent.parent for fold in made}):
        for checkpoint in sorted(dataset.glob("*/fold_*/checkpoint_final.pth")):
            if checkpoint.parent not in made:
                found.setdefault(f"{dataset.name}/{checkpoint.parent.parent.name}", []).append(checkpoint.parent.name)
    return found


def _alike(model: Path) -> list[Path]:
    """Folders of other trainers with the same dataset, plans and configuration."""
    _, separator, rest = model.name.partition("__")
    if not model.parent.is_dir():
        return []
    return sorted(path for path in model.parent.iterdir() if path.name.endswith(separator + rest) and path != model)


def _logs(fold: Path) -> list[str]:
    return [log.read_text(encoding="utf-8", errors="replace") for log in sorted(fold.glob("training_log_*.txt"))]


def _epoch_times(model: Path) -> list[float]:
    """Seconds of all epochs that the logs of a model have."""
    texts = (text for fold in sorted(model.glob("fold_*")) for text in _logs(fold))
    return [float(time) for text in texts for time in _TIME.findall(text)]


def _last_epoch(fold: Path) -> int:
    """Number of epochs that were begun and are behind, as nnU-Net counts them."""
    return max((int(number) for text in _logs(fold) for number in _NUMBER.findall(text)), default=0)


def _noted_epochs(model: Path) -> int | None:
    """What a training of the model has written of its number of epochs."""
    noted = (read_json_if_complete(file, dict) or {} for file in sorted(model.glob("fold_*/debug.json")))
    numbers = (str(content.get("num_epochs")) for content in noted)  # nnU-Net writes texts
    return max((int(number) for number in numbers if number.isdecimal()), default=None)
