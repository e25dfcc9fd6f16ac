"""Curves of the fine-tunings on the validation cases: a row per setting, a line per model, the mean over seeds.

    python plot_curves.py RESULTS PICTURE MODEL [MODEL ...]

RESULTS holds nnUNetTrainerMODELVote__*/fold_*/curve.csv and those of …Raters.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

SETTINGS = {"Vote": "the majority vote: NLL against it", "Raters": "random raters: NLL against each"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("models", nargs="+")
    arguments = parser.parse_args()
    figure, axes = plt.subplots(len(SETTINGS), 2, figsize=(11, 7), sharex=True, layout="constrained")
    for row, (setting, name) in zip(axes, SETTINGS.items(), strict=True):
        for number, model in enumerate(arguments.models):
            paths = sorted(arguments.results.glob(f"nnUNetTrainer{model}{setting}__*/fold_*/curve.csv"))
            mean = pd.concat([pd.read_csv(path) for path in paths]).groupby("iterations").mean()
            for axis, measure in zip(row, (f"nll_{setting.lower()}", "spread"), strict=True):
                positive = mean[measure][mean[measure] > 0]  # a deterministic model has no spread
                axis.plot(positive.index, positive, color=f"C{number}", lw=1.2, label=model)
        row[0].set(title=f"trained on {name} (nats)")
        row[1].set(title="sd / mean of the sampled volume", yscale="log")
    for axis in axes[-1]:
        axis.set_xlabel("iterations")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    figure.savefig(arguments.picture, dpi=90)


if __name__ == "__main__":
    main()
