"""Draw a sheet of simulated CT images, each beside the contours of its four radiologists.

python examples/demo/look_at_images.py nodules.png
"""

from __future__ import annotations

import argparse

from matplotlib.figure import Figure

from nnunet_stochastic.datasets import load_nodules, simulate_case

ROWS, COLUMNS = 4, 5
LUNG_WINDOW_HU = (-1150, 250)
RATER_COLOURS = ("tab:red", "tab:green", "tab:cyan", "gold")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", help="image file to write")
    arguments = parser.parse_args()
    nodules = load_nodules()
    figure = Figure(figsize=(2 * 2 * COLUMNS, 2 * ROWS), layout="tight")
    axes = figure.subplots(ROWS, 2 * COLUMNS).ravel()
    for ax in axes:
        ax.axis("off")
    step = len(nodules) // (ROWS * COLUMNS)
    for n, (left, right) in enumerate(zip(axes[::2], axes[1::2], strict=True)):
        case = simulate_case(nodules[n * step], seed=0, index=n * step)
        largest = int(case.majority.sum((1, 2)).argmax())
        for ax in (left, right):
            ax.imshow(case.image_hu[largest], cmap="gray", vmin=LUNG_WINDOW_HU[0], vmax=LUNG_WINDOW_HU[1])
        for mask, colour in zip(case.raters[:, largest], RATER_COLOURS, strict=True):
            if mask.any():
                right.contour(mask, [0.5], colors=colour, linewidths=0.8)
    figure.savefig(arguments.output, dpi=80)


if __name__ == "__main__":
    main()
