"""``python -m nnunet_stochastic.study.splits DATASET S``: seed s of a dataset is fold s, so all folds have one split.

The first S entries of splits_final.json must be equal. A file with fewer equal ones is made longer.
"""

from __future__ import annotations

import sys
from pathlib import Path

from nnunet_stochastic.io.schemas import Splits
from nnunet_stochastic.io.text import read_json

__all__ = ["check_splits", "has_splits", "main"]


def check_splits(file: Path, seeds: int) -> None:
    """Raise for splits that are there and differ: models trained on them are no repetitions of each other.

    Parameters
    ----------
    file
        File splits_final.json.
    seeds
        Number S of seeds.
    """
    if not file.is_file():
        return
    splits = read_json(file, Splits, remedy="remove or restore it")
    if any(split != splits[0] for split in splits[:seeds]):
        raise ValueError(
            f"{file} has different splits in its first {min(seeds, len(splits))} folds, and the {seeds} seeds of a "
            "study are folds with the same one; run nnunet_stochastic_ensemble_splits --overwrite (it keeps a copy; "
            "models that were trained on the other folds do not belong to the study), or write seeds: 1"
        )


def has_splits(file: Path, seeds: int) -> bool:
    """Whether the splits of S folds are there and equal; raises as ``check_splits`` does."""
    check_splits(file, seeds)
    return file.is_file() and len(read_json(file, Splits)) >= seeds


def main(argv: list[str] | None = None) -> int:
    """Give S folds the same split; return 0."""
    dataset, seeds = sys.argv[1:] if argv is None else argv
    # nnU-Net takes seconds to import, and the study's own command reads this module.
    from nnunet_stochastic.datasets.ensemble_splits import write_ensemble_splits
    from nnunet_stochastic.datasets.folders import dataset_folders

    file = dataset_folders(dataset)[1] / "splits_final.json"
    if has_splits(file, int(seeds)):
        print(f"{file} has {seeds} folds with the same split")
        return 0
    result = write_ensemble_splits(dataset, num_members=int(seeds), overwrite=True)
    print(f"{result.file}: {seeds} folds with the same split")
    return 0


if __name__ == "__main__":
    sys.exit(main())
