"""Table of a folder of evaluated predictions, one row per model and epistemic method.

    python table.py OUT RATERS

OUT holds folders METHOD/MODEL as ``run.sh`` writes them; RATERS holds case_rater0.nii.gz ….
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "covariance_models"))
from ged import case_raters, mean_ged


def relative_spread(volumes: np.ndarray) -> float:
    """sd / mean of the volumes of one case, NaN where all are 0."""
    return float(np.std(volumes, ddof=1) / np.mean(volumes)) if np.mean(volumes) > 0 else float("nan")


def row(folder: Path, raters: Path) -> dict[str, float]:
    results = json.loads((folder / "evaluation" / "summary.json").read_text())["results"]
    cases = json.loads((folder / "uncertainty.json").read_text())["cases"].values()
    aleatoric, epistemic = (np.mean([case[f"mean_{name}"] for case in cases]) for name in ("aleatoric", "epistemic"))
    spreads = [relative_spread(case["sample_volumes"]["nodule"]["samples_ml"]) for case in cases]
    return {
        "Dice": results["reference"]["nodule"]["mean"]["dice"],
        "NLL": results["raters"]["all"]["mean"]["nll"],
        "ECE": results["raters"]["all"]["dataset"]["ece"],
        "GED": mean_ged(folder, raters),
        "sd of volume": np.nanmean(spreads),
        "AU": aleatoric,
        "EU": epistemic,
        "EU/AU": epistemic / aleatoric,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("raters", type=Path)
    arguments = parser.parse_args()
    folders = sorted(path.parent.parent for path in arguments.out.glob("*/*/evaluation/summary.json"))
    table = pd.DataFrame(
        [{"epistemic": folder.parent.name, "model": folder.name, **row(folder, arguments.raters)} for folder in folders]
    )
    print(table.to_string(index=False, float_format="{:.4g}".format))
    cases = json.loads((folders[0] / "uncertainty.json").read_text())["cases"]
    spreads = [relative_spread(case_raters(arguments.raters, case).sum((1, 2, 3))) for case in cases]
    print(f"raters: sd of volume {np.nanmean(spreads):.4g}")


if __name__ == "__main__":
    main()
