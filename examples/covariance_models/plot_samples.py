"""Samples of several models beside the raters' outlines, on the slice where the raters disagree most.

    python plot_samples.py FIGURE.png CASE NAME=FOLDER [NAME=FOLDER ...]

Each FOLDER holds CASE.npz as ged.py writes it with -o.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

NUM_SAMPLES = 5
MARGIN = 8  # voxels around the annotators' masks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", type=Path)
    parser.add_argument("case")
    parser.add_argument("models", nargs="+", metavar="NAME=FOLDER")
    arguments = parser.parse_args()
    models = dict(model.split("=", 1) for model in arguments.models)
    files = {name: np.load(Path(folder) / f"{arguments.case}.npz") for name, folder in models.items()}
    first = next(iter(files.values()))
    raters = first["raters"] > 0
    z = int(np.argmax(raters.astype(float).var(0).sum((1, 2))))
    rows, columns = np.nonzero(raters[:, z].any(0))
    window = tuple(slice(max(0, position.min() - MARGIN), position.max() + MARGIN + 1) for position in (rows, columns))
    image = first["image"][z][window]

    figure, axes = plt.subplots(len(files) + 1, NUM_SAMPLES, figsize=(2 * NUM_SAMPLES, 2.1 * (len(files) + 1)))
    for index, axis in enumerate(axes[0]):
        axis.imshow(image, cmap="gray")
        if 1 <= index <= len(raters):
            axis.contour(raters[index - 1, z][window], levels=[0.5], colors="orange", linewidths=1.2)
            axis.set_title(f"rater {index - 1}", fontsize=9)
    axes[0, 0].set_title(f"{arguments.case}, z = {z}", fontsize=9)
    for row, (name, file) in zip(axes[1:], files.items(), strict=True):
        for index, axis in enumerate(row):
            axis.imshow(image, cmap="gray")
            axis.contour(file["samples"][index, z][window] > 0, levels=[0.5], colors="deepskyblue", linewidths=1.0)
        row[0].set_title(f"{name}: samples", fontsize=9, loc="left")
    for axis in axes.flat:
        axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(arguments.figure, dpi=90)


if __name__ == "__main__":
    main()
