"""Generalized energy distance between predicted samples and the raters' masks (1 - IoU of the foreground).

    python ged.py PREDICTIONS RATERS

PREDICTIONS was written by ``nnunet_stochastic_predict --save_samples N``; RATERS holds case_rater0.nii.gz ….
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_stochastic.metrics import generalized_energy_distance


def read_stack(paths: list[Path]) -> np.ndarray:
    """Label maps (N, z, y, x)."""
    return np.stack([sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in paths]).astype(np.int64)


def case_samples(predictions: Path, case: str) -> np.ndarray:
    return read_stack(sorted((predictions / "samples").glob(f"{case}_[0-9][0-9][0-9].nii.gz")))


def case_raters(raters: Path, case: str) -> np.ndarray:
    return read_stack(sorted(raters.glob(f"{case}_rater*.nii.gz")))


def mean_ged(predictions: Path, raters: Path) -> float:
    """Mean over the cases of a prediction."""
    cases = json.loads((predictions / "uncertainty.json").read_text())["cases"]
    return float(
        np.mean(
            [
                generalized_energy_distance(case_samples(predictions, case), case_raters(raters, case), classes=[[1]])
                for case in cases
            ]
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path)
    parser.add_argument("raters", type=Path)
    arguments = parser.parse_args()
    print(f"{arguments.predictions.name}: GED {mean_ged(arguments.predictions, arguments.raters):.4f}")


if __name__ == "__main__":
    main()
