"""Table of evaluated predictions, and differences to one of the models, paired over cases and seeds.

    python table.py OUT RATERS PATIENTS REFERENCE MODEL [MODEL ...]

OUT holds folders MODEL_SEED, each with its ``evaluation``; RATERS holds case_rater0.nii.gz …, PATIENTS is the table of
cases and patients that ``--groups`` takes. Intervals: 95 %, 10,000 bootstrap draws of patients; a number of a case is
its mean over seeds. Where an interval holds 0, behind it is the number of patients at which an interval around the same
difference, narrower by the square root of their number, would not.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

from nnunet_stochastic.evaluation.records import COVERAGE_LEVEL
from nnunet_stochastic.metrics import interval_coverage
from nnunet_stochastic.metrics.crps import crps_samples

DRAWS = 10_000
MOST_PATIENTS = 10_000  # that are named as deciding
#: Of the columns of the table.
DIGITS = {
    **{"Dice": 4, "NLL, vote": 5, "NLL": 5, "ECE": 5, "MCE": 3, "GED": 3},
    **{"CRPS/volume": 3, "coverage": 2, "sd/mean": 3, "raters' sd/mean": 3},
}


def rater_volumes(folder: Path, case: str) -> np.ndarray:
    """Volumes of the raters' masks of a case, (A,), ml."""
    volumes = []
    for path in sorted(folder.glob(f"{case}_rater*.nii.gz")):
        mask = sitk.ReadImage(str(path))
        volumes.append(sitk.GetArrayViewFromImage(mask).sum() * np.prod(mask.GetSpacing()) / 1000)
    return np.array(volumes)


def numbers_of_cases(folder: Path, raters: dict[str, np.ndarray]) -> pd.DataFrame:
    """The numbers of each case of one prediction."""
    cases = pd.read_csv(folder / "evaluation" / "cases.csv")
    images = pd.read_csv(folder / "evaluation" / "images.csv").set_index("case")
    is_vote = cases["annotation"] == "reference"
    nll = {
        name: cases[chosen].groupby("case")["nll"].mean() for name, chosen in (("vote", is_vote), ("raters", ~is_vote))
    }
    table = pd.DataFrame({"Dice": images["dice"], "NLL, vote": nll["vote"], "NLL": nll["raters"]})
    table["GED"] = images["ged_iou"]
    predicted = json.loads((folder / "uncertainty.json").read_text())["cases"]
    for case, volumes in raters.items():
        sampled = np.array(predicted[case]["sample_volumes"]["nodule"]["samples_ml"])
        crps = np.mean([crps_samples(sampled, volume) for volume in volumes])
        table.loc[case, "CRPS/volume"] = crps / volumes.mean()
        table.loc[case, "coverage"] = interval_coverage(sampled, volumes, level=COVERAGE_LEVEL)
        several = len(sampled) > 1 and sampled.any()
        table.loc[case, "sd/mean"] = sampled.std(ddof=1) / sampled.mean() if several else np.nan
        table.loc[case, "raters' sd/mean"] = volumes.std(ddof=1) / volumes.mean()
    return table


def draws_of_patients(patients: pd.Series) -> np.ndarray:
    """How often each case counts in each draw, (DRAWS, N)."""
    of_patient = pd.get_dummies(patients).to_numpy(dtype=float)
    generator = np.random.default_rng(0)
    counts = generator.multinomial(of_patient.shape[1], np.full(of_patient.shape[1], 1 / of_patient.shape[1]), DRAWS)
    return counts @ of_patient.T


def interval(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of (N,)."""
    known = np.isfinite(values)
    low, high = np.quantile(weights[:, known] @ values[known] / weights[:, known].sum(1), (0.025, 0.975))
    return float(low), float(high)


def calibration(folder: Path) -> dict[str, float]:
    """ECE and MCE against raters, all cases pooled."""
    summary = json.loads((folder / "evaluation" / "summary.json").read_text())
    found = summary["results"]["raters"]["all classes"]["dataset"]
    return {"ECE": found["ece"], "MCE": found["mce"]}


def line(name: str, cells: list[str]) -> str:
    return f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("raters", type=Path)
    parser.add_argument("patients", type=Path)
    parser.add_argument("models", nargs="+")
    arguments = parser.parse_args()
    patients = pd.read_csv(arguments.patients).set_index("case")["patient"]
    raters = {str(case): rater_volumes(arguments.raters, str(case)) for case in patients.index}
    weights = draws_of_patients(patients)
    print("mean over seeds, and what they reach from to:")
    print(line("model", list(DIGITS)))
    mean: dict[str, pd.DataFrame] = {}
    seeds: dict[str, list[str]] = {}
    for model in arguments.models:
        folders = sorted(arguments.out.glob(f"{model}_[0-9]"))
        seeds[model] = [folder.name.removeprefix(f"{model}_") for folder in folders]
        if not folders or seeds[model] != seeds[arguments.models[0]]:
            parser.error(f"seeds differ, of which differences are to be paired, or there are none: {seeds}")
        tables = [numbers_of_cases(folder, raters).loc[patients.index] for folder in folders]
        mean[model] = sum(tables) / len(tables)
        of_seeds = pd.DataFrame(
            [{**each.mean(), **calibration(folder)} for each, folder in zip(tables, folders, strict=True)]
        )
        cells = [
            f"{of_seeds[name].mean():.{digits}f} ({of_seeds[name].min():.{digits}f}-{of_seeds[name].max():.{digits}f})"
            for name, digits in DIGITS.items()
        ]
        print(line(f"{model}, {len(folders)} seeds", cells))
    reference, *others = arguments.models
    columns = [name for name in mean[reference] if name not in ("sd/mean", "raters' sd/mean")]
    print(f"\ndifference to {reference}; sd/mean over that of the raters:")
    print(line("model", [*columns, "sd/mean, raters' = 1"]))
    for model in others:
        difference, cells = mean[model] - mean[reference], []
        for name in columns:
            values, digits = difference[name].to_numpy(), DIGITS[name]
            low, high = interval(values, weights)
            cell = f"{np.nanmean(values):+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"
            if low <= 0 <= high:
                needed = patients.nunique() * ((high - low) / 2 / np.nanmean(values)) ** 2
                cell += f" [{needed:.0f}]" if needed <= MOST_PATIENTS else f" [> {MOST_PATIENTS}]"
            cells.append(cell)
        spread, of_raters = (mean[model][name].to_numpy() for name in ("sd/mean", "raters' sd/mean"))
        known = np.isfinite(spread)
        if not known.any():  # one sample
            print(line(model, [*cells, "–"]))
            continue
        of_draws = (weights[:, known] @ spread[known]) / (weights[:, known] @ of_raters[known])
        low, high = np.quantile(of_draws, (0.025, 0.975))
        ratio = spread[known].mean() / of_raters[known].mean()
        print(line(model, [*cells, f"{ratio:.2f} ({low:.2f} to {high:.2f})"]))


if __name__ == "__main__":
    main()
