"""Table of a folder of evaluated predictions, one row per model and epistemic method.

    python table.py OUT RATERS

OUT holds folders METHOD/MODEL as ``run.sh`` writes them; RATERS holds case_rater0.nii.gz ….
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk


def relative_spread(volumes: np.ndarray) -> float:
    """sd / mean of the volumes of one case, NaN where all are 0."""
    return float(np.std(volumes, ddof=1) / np.mean(volumes)) if np.mean(volumes) > 0 else float("nan")


def row(folder: Path) -> dict[str, float]:
    summary = json.loads((folder / "evaluation" / "summary.json").read_text())
    images = pd.read_csv(folder / "evaluation" / "images.csv")
    cases = json.loads((folder / "uncertainty.json").read_text())["cases"].values()
    spreads = [relative_spread(case["sample_volumes"]["nodule"]["samples_ml"]) for case in cases]
    raters = summary["results"]["raters"]["all classes"]
    return {
        "Dice": summary["results"]["reference"]["nodule"]["mean"]["dice"],
        "NLL": raters["mean"]["nll"],
        "ECE": raters["dataset"]["ece"],
        "GED": summary["tasks"]["GED"]["iou"]["ID"],
        "sd of volume": np.nanmean(spreads),
        "AU": images["AU"].mean(),
        "EU": images["EU"].mean(),
        "EU/AU": summary["tasks"]["RATIO"]["ID"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("raters", type=Path)
    arguments = parser.parse_args()
    folders = sorted(path.parent.parent for path in arguments.out.glob("*/*/evaluation/summary.json"))
    table = pd.DataFrame([{"epistemic": folder.parent.name, "model": folder.name, **row(folder)} for folder in folders])
    print(table.sort_values(["model", "epistemic"]).to_string(index=False, float_format="{:.4g}".format))
    spreads = []
    for case in json.loads((folders[0] / "uncertainty.json").read_text())["cases"]:
        masks = [sitk.ReadImage(str(path)) for path in sorted(arguments.raters.glob(f"{case}_rater*.nii.gz"))]
        spreads.append(relative_spread(np.array([sitk.GetArrayViewFromImage(mask).sum() for mask in masks])))
    print(f"raters: sd of volume {np.nanmean(spreads):.4g}")


if __name__ == "__main__":
    main()
