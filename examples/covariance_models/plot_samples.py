"""Samples of several models beside the raters' outlines, on the slice where the raters disagree most.

    python plot_samples.py FIGURE.png CASE RATERS NAME=FOLDER [NAME=FOLDER ...]

Each FOLDER was written by ``nnunet_stochastic_predict --save_samples N``, N at least 5; RATERS holds the masks,
case_rater0.nii.gz ….
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import SimpleITK as sitk

NUM_SAMPLES = 5
MARGIN = 8  # voxels around the annotators' masks


def read_stack(paths: list[Path]) -> np.ndarray:
    """Label maps (N, z, y, x)."""
    return np.stack([sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in paths])


def case_samples(predictions: Path, case: str) -> np.ndarray:
    return read_stack(sorted((predictions / "samples").glob(f"{case}_[0-9][0-9][0-9].nii.gz")))


def case_raters(raters: Path, case: str) -> np.ndarray:
    return read_stack(sorted(raters.glob(f"{case}_rater*.nii.gz")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", type=Path)
    parser.add_argument("case")
    parser.add_argument("raters", type=Path)
    parser.add_argument("models", nargs="+", metavar="NAME=FOLDER")
    arguments = parser.parse_args()
    folders = {name: Path(folder) for name, folder in (model.split("=", 1) for model in arguments.models)}
    samples = {name: case_samples(folder, arguments.case) for name, folder in folders.items()}
    record = json.loads((next(iter(folders.values())) / "uncertainty.json").read_text())
    raters = case_raters(arguments.raters, arguments.case) > 0
    z = int(np.argmax(raters.astype(float).var(0).sum((1, 2))))
    rows, columns = np.nonzero(raters[:, z].any(0))
    window = tuple(slice(max(0, position.min() - MARGIN), position.max() + MARGIN + 1) for position in (rows, columns))
    image_file = record["cases"][arguments.case]["input_files"][0]
    image = sitk.GetArrayFromImage(sitk.ReadImage(image_file))[z][window]

    figure, axes = plt.subplots(len(samples) + 1, NUM_SAMPLES, figsize=(2 * NUM_SAMPLES, 2.1 * (len(samples) + 1)))
    for index, axis in enumerate(axes[0]):
        axis.imshow(image, cmap="gray")
        if 1 <= index <= len(raters):
            axis.contour(raters[index - 1, z][window], levels=[0.5], colors="orange", linewidths=1.2)
            axis.set_title(f"rater {index - 1}", fontsize=9)
    axes[0, 0].set_title(f"{arguments.case}, z = {z}", fontsize=9)
    for row, (name, drawn) in zip(axes[1:], samples.items(), strict=True):
        for index, axis in enumerate(row):
            axis.imshow(image, cmap="gray")
            axis.contour(drawn[index, z][window] > 0, levels=[0.5], colors="deepskyblue", linewidths=1.0)
        row[0].set_title(f"{name}: samples", fontsize=9, loc="left")
    for axis in axes.flat:
        axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(arguments.figure, dpi=90)


if __name__ == "__main__":
    main()
