"""Pictures of this comparison: curves.png of the trainings, samples.png of whole samples beside the annotators' masks.

    python pictures.py RESULTS OUT RAW

RESULTS is the data set's folder in nnUNet_results, OUT that of the predictions, RAW that in nnUNet_raw. Writes into the
current folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import SimpleITK as sitk
import torch

MODELS = {"Softmax": "Softmax", "SSN": "SSN", "ProbUNet": "Prob. U-Net", "Diffusion": "Diffusion"}
SEEDS = (0, 1, 2)
ITERATIONS = 10  # of an epoch
SMOOTHED = 10  # epochs
CASES = 5
COLUMNS = {
    "Softmax, three members": "Softmax-ensemble-0",
    "SSN, one network": "SSN-none-0",
    "Prob. U-Net, one network": "ProbUNet-none-0",
    "Diffusion, one network": "Diffusion-none-0",
    "SSN, ensemble": "SSN-ensemble-0",
}


def validation_losses(results: Path, trainer: str, seed: int) -> np.ndarray:
    """Validation loss of each epoch of a training that has ended, none of one that has not."""
    path = results / f"nnUNetTrainer{trainer}__nnUNetSmallPlans__2d" / f"fold_{seed}" / "checkpoint_final.pth"
    if not path.is_file():
        return np.array([])
    content = torch.load(path, map_location="cpu", weights_only=False)
    return np.array(content["logging"]["val_losses"])


def draw_curves(results: Path) -> None:
    figure, axes = plt.subplots(1, len(MODELS), figsize=(13, 3.4), layout="constrained")
    for axis, (model, name) in zip(axes, MODELS.items(), strict=True):
        for seed in SEEDS:
            first, second = (validation_losses(results, f"{model}{part}", seed) for part in ("SmallSWAG", "Small"))
            dropout = validation_losses(results, f"{model}SmallDropout", seed)
            whole = {"C0": np.concatenate([first, second]), "C1": dropout}
            for color, losses in whole.items():
                if len(losses) < SMOOTHED:
                    continue
                smooth = np.convolve(losses, np.full(SMOOTHED, 1 / SMOOTHED), "valid")
                axis.plot((np.arange(len(smooth)) + SMOOTHED) * ITERATIONS, smooth, color, lw=1, alpha=0.8)
            axis.axvline(len(first) * ITERATIONS, color="0.6", lw=0.8, ls=":")
        axis.set(title=name, xlabel="iterations", yscale="log")
    axes[0].set_ylabel("validation loss, mean of 10 epochs")
    figure.legend(
        [plt.Line2D([], [], color=color) for color in ("C0", "C1")],
        ["with SWAG's snapshots, then on to the model itself", "with dropout"],
        loc="outside lower center",
        ncols=2,
    )
    figure.savefig("curves.png", dpi=90)


def read(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0]


def draw_samples(out: Path, raw: Path) -> None:
    sizes = {path: read(path).sum() for path in sorted((raw / "labelsTs").glob("*.nii.gz"))}
    # Of different sizes, in the order of the files.
    ordered = sorted(sizes, key=lambda path: sizes[path])
    cases = [ordered[round(place)].name.removesuffix(".nii.gz") for place in np.linspace(0, len(ordered) - 1, CASES)]
    figure, axes = plt.subplots(CASES, 1 + len(COLUMNS), figsize=(12, 10), layout="constrained")
    for number_of_row, (row, case) in enumerate(zip(axes, cases, strict=True)):
        image = read(raw / "imagesTs" / f"{case}_0000.nii.gz")
        drawn = {"annotators": sorted((raw / "ratersTs").glob(f"{case}_rater*.nii.gz"))}
        for name, folder in COLUMNS.items():
            drawn[name] = sorted((out / folder / "ID" / "samples").glob(f"{case}_*.nii.gz"))
        for axis, (name, paths) in zip(row, drawn.items(), strict=True):
            axis.imshow(image, cmap="gray", vmin=-1000, vmax=300)
            for number, path in enumerate(paths):
                axis.contour(read(path), [0.5], colors=[plt.get_cmap("turbo")(number / len(paths))], linewidths=0.9)
            axis.set_axis_off()
            if number_of_row == 0:
                axis.set_title(f"{name} ({len(paths)})", fontsize=10)
    figure.savefig("samples.png", dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("raw", type=Path)
    arguments = parser.parse_args()
    draw_curves(arguments.results)
    draw_samples(arguments.out, arguments.raw)


if __name__ == "__main__":
    main()
