"""Table of evaluated predictions, and differences of one model to others, paired over cases and seeds.

    python table.py OUT RATERS PATIENTS MODEL OTHER [OTHER ...]

OUT holds folders MODEL_SEED, each with its ``evaluation``; RATERS holds case_rater0.nii.gz …, PATIENTS is the table of
cases and patients that ``--groups`` takes. Intervals: 95 %, 10,000 bootstrap draws of patients; a number of a case is
its mean over seeds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

from nnunet_stochastic.metrics.crps import crps_samples

DRAWS = 10_000


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
    against_raters = cases[cases["annotation"] != "reference"].groupby("case")
    table = pd.DataFrame({"Dice": images["dice"], "NLL": against_raters["nll"].mean(), "GED": images["ged_iou"]})
    predicted = json.loads((folder / "uncertainty.json").read_text())["cases"]
    for case, volumes in raters.items():
        sampled = np.array(predicted[case]["sample_volumes"]["nodule"]["samples_ml"])
        crps = np.mean([crps_samples(sampled, volume) for volume in volumes])
        table.loc[case, "CRPS/volume"] = crps / volumes.mean()
        table.loc[case, "sd/mean"] = sampled.std(ddof=1) / sampled.mean() if sampled.any() else np.nan
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
    seeds: dict[str, list[pd.DataFrame]] = {}
    for model in arguments.models:
        folders = sorted(arguments.out.glob(f"{model}_[0-9]"))
        seeds[model] = [numbers_of_cases(folder, raters).loc[patients.index] for folder in folders]
        ece = [
            json.loads((folder / "evaluation" / "summary.json").read_text())["results"]["raters"]["all classes"][
                "dataset"
            ]["ece"]
            for folder in folders
        ]
        means = pd.DataFrame([each.mean() for each in seeds[model]])
        cells = [
            f"{name} {mean:.4f} ({means[name].min():.4f}-{means[name].max():.4f})"
            for name, mean in means.mean().items()
        ]
        print(
            f"{model}: {len(folders)} seeds; {'; '.join(cells)}; ECE {np.mean(ece):.5f} ({min(ece):.5f}-{max(ece):.5f})"
        )
    mean = {model: sum(tables) / len(tables) for model, tables in seeds.items()}
    first, *others = arguments.models
    spread, of_raters = (mean[first][name].to_numpy() for name in ("sd/mean", "raters' sd/mean"))
    low, high = np.quantile((weights @ spread) / (weights @ of_raters), (0.025, 0.975))
    print(f"{first}: sd/mean over the raters' {spread.mean() / of_raters.mean():.3f} ({low:.3f} to {high:.3f})")
    for other in others:
        difference = mean[first] - mean[other]
        for name in difference.columns[:-1]:
            low, high = interval(difference[name].to_numpy(), weights)
            print(f"{first} - {other}: {name} {difference[name].mean():+.4f} ({low:+.4f} to {high:+.4f})")


if __name__ == "__main__":
    main()
