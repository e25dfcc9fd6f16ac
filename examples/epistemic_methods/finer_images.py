"""What resampling to images finer than the grid takes from segmentations: mean Dice on both, and the loss.

    python finer_images.py PATIENTS LABELS_ON_GRID LABELS_ON_IMAGES ON_GRID ON_IMAGES [ON_GRID ON_IMAGES ...]

Pairs of folders of segmentations of the same cases, 1 in the structure, by one model; the first pair is the
deterministic network's, with whose loss the others' are compared. 95 % intervals of a bootstrap over patients.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
import SimpleITK as sitk
from table import interval

from nnunet_stochastic.metrics.dice import dice, joint_label_counts


def dice_of_cases(folder: Path, labels: Path) -> pd.Series:
    """Dice of each case of ``labels``."""
    found = {}
    for file in sorted(labels.glob("*.nii.gz")):
        ours, theirs = (sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in (folder / file.name, file))
        (found[file.name.removesuffix(".nii.gz")],) = dice(joint_label_counts(ours, theirs, num_labels=2), [(1,)])
    return pd.Series(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patients", type=Path, help="CSV file with the columns case and patient")
    parser.add_argument("labels", type=Path, nargs=2)
    parser.add_argument("folders", type=Path, nargs="+")
    arguments = parser.parse_args()
    patients = pd.read_csv(arguments.patients).set_index("case")["patient"]
    of_first = None
    for folders in zip(arguments.folders[::2], arguments.folders[1::2], strict=True):
        on_grid, on_images = map(dice_of_cases, folders, arguments.labels)
        loss = on_images - on_grid
        of_first = loss if of_first is None else of_first
        cells = [f"{on_grid.mean():.3f}", f"{on_images.mean():.3f}"]
        for values in (loss, loss - of_first):
            low, high = interval(values, patients)
            cells.append(f"{values.mean():+.3f} ({low:+.3f} to {high:+.3f})")
        print(f"| {folders[1]} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
