"""Curves of the fine-tunings on the validation cases: a panel per measure, a line per model and seed.

    python plot_curves.py RESULTS PICTURE MODEL [MODEL ...]

RESULTS holds nnUNetTrainerMODELContinued__*/fold_*/curve.csv.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

PANELS = {"nll": "NLL of the predictive mean (nats)", "ged": "GED (1 - IoU)", "spread": "sd / mean of sampled volume"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--rater_spread", type=float, help="sd / mean of the raters' volume on these cases")
    arguments = parser.parse_args()
    figure, axes = plt.subplots(1, len(PANELS), figsize=(13, 4), layout="constrained")
    for number, model in enumerate(arguments.models):
        for seed, path in enumerate(
            sorted(arguments.results.glob(f"nnUNetTrainer{model}Continued__*/fold_*/curve.csv"))
        ):
            curve = pd.read_csv(path)
            for axis, measure in zip(axes, PANELS, strict=True):
                axis.plot(curve["iterations"], curve[measure], color=f"C{number}", lw=1, label=None if seed else model)
    for axis, (measure, title) in zip(axes, PANELS.items(), strict=True):
        axis.set(xlabel="iterations", title=title)
        if measure == "spread":
            axis.set_yscale("log")
            if arguments.rater_spread is not None:
                axis.axhline(arguments.rater_spread, color="black", ls="--", label="raters")
    figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    figure.savefig(arguments.picture, dpi=100)


if __name__ == "__main__":
    main()
