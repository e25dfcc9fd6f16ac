"""Tables of a folder of evaluated predictions, one row per model and epistemic method.

    python table.py OUT PATIENTS

OUT holds folders MODEL-METHOD-GROUP/ts as ``run.sh`` writes them, group A or B; rows have both. The second table has
the differences to one network, trained on the same annotations, over groups and cases, with the 95 % interval of a
bootstrap over patients; the third what these are of the ensemble's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

METHODS = {
    "alone": "one network",
    "tuned": "the same, fine-tuned",
    "laplace": "Laplace",
    "cyclic": "cyclic checkpoints",
    "swag": "SWAG, 1e-3",
    "swag_ent": "SWAG, 1e-4 (ENT)",
    "dropout": "dropout",
    "ensemble": "ensemble of five",
    "folds": "five folds",
}
#: What the members are compared with: a softmax network alone is trained on labelsTr, these go on with annotators.
REFERENCES = dict.fromkeys((("Softmax", method) for method in ("cyclic", "swag", "swag_ent", "dropout")), "tuned")
SHIFTS = ("blur", "noise", "contrast")
REPLICATES = 2000


def numbers(folder: Path, measure: str) -> dict[str, float]:
    summary = json.loads((folder / "evaluation" / "summary.json").read_text())
    results, tasks = summary["results"], summary["tasks"]
    raters, reference = (results[name]["all classes"] for name in ("raters", "reference"))
    row = {
        "Dice": reference["mean"]["dice"],
        "NLL, vote": reference["mean"]["nll"],
        "NLL, annotators": raters["mean"]["nll"],
        "ECE": raters["dataset"]["ece"],
        "GED": tasks["GED"]["iou"]["ID"],
        "EU/AU": tasks.get("RATIO", {}).get("ID"),
        "AURC": tasks["FD"]["ID"]["TU"]["aurc"],
    }
    found = tasks.get("OODD", {}).get("shifts", {})
    return row | {f"AUROC {shift}": found.get(shift, {}).get(measure) for shift in SHIFTS}


def cases(folder: Path) -> pd.DataFrame:
    """NLL against annotators and vote, Dice and GED per case."""
    table = pd.read_csv(folder / "evaluation" / "cases.csv").query("set == 'ID'")
    images = pd.read_csv(folder / "evaluation" / "images.csv").query("set == 'ID'").set_index("case")
    is_vote = table["annotation"] == "reference"
    means = {
        "NLL, annotators": table[~is_vote].groupby("case")["nll"].mean(),
        "NLL, vote": table[is_vote].groupby("case")["nll"].mean(),
        "Dice": table[is_vote].groupby("case")["dice"].mean(),
        "GED": images["ged_iou"],
    }
    return pd.DataFrame(means)


def interval(differences: pd.Series, patients: pd.Series) -> tuple[float, float]:
    """Bootstrap over patients of the mean over cases."""
    return interval_of_ratio(differences, pd.Series(1, differences.index), patients)


def interval_of_ratio(above: pd.Series, below: pd.Series, patients: pd.Series) -> tuple[float, float]:
    """Bootstrap over patients of the ratio of two sums over cases."""
    sums = np.stack([values.groupby(patients.loc[values.index].to_numpy()).sum() for values in (above, below)], axis=1)
    drawn = sums[np.random.default_rng(0).integers(len(sums), size=(REPLICATES, len(sums)))].sum(axis=1)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    return low, high


def shown(values: list[float | None], digits: int) -> str:
    return " / ".join("–" if value is None else f"{value:.{digits}f}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("patients", type=Path, help="CSV file with the columns case and patient")
    arguments = parser.parse_args()
    patients = pd.read_csv(arguments.patients).set_index("case")["patient"]
    found = {
        tuple(path.parents[2].name.split("-")): path.parents[1]
        for path in sorted(arguments.out.glob("*-*-*/ts/evaluation/summary.json"))
    }
    digits = {"Dice": 3, "NLL, vote": 4, "NLL, annotators": 4, "ECE": 4, "GED": 3, "EU/AU": 2, "AURC": 3}
    print("| model | members | " + " | ".join([*digits, *(f"AUROC {shift}" for shift in SHIFTS)]) + " |")
    models = dict.fromkeys(model for model, _, _ in found)
    keys = [(model, method) for model in models for method in METHODS if (model, method, "A") in found]
    for model, method in keys:
        measure = "TU" if method in ("alone", "tuned") else "EU"
        rows = [numbers(found[key], measure) for group in "AB" if (key := (model, method, group)) in found]
        cells = [shown([row[name] for row in rows], digits.get(name, 2)) for name in rows[0]]
        print(f"| {model} | {METHODS[method]} | " + " | ".join(cells) + " |")
    print()
    differences = {}
    for model, method in keys:
        alone = REFERENCES.get((model, method), "alone")
        groups = [group for group in "AB" if (model, method, group) in found and (model, alone, group) in found]
        if method == alone or not groups:
            continue
        difference = pd.concat([cases(found[model, method, g]) - cases(found[model, alone, g]) for g in groups])
        differences[model, method] = difference
        cells = []
        for name in difference:
            values = difference[name].dropna()
            low, high = interval(values, patients)
            places = digits[name]
            cells.append(f"{values.mean():+.{places}f} ({low:+.{places}f} to {high:+.{places}f})")
        print(f"| {model} | {METHODS[method]} | " + " | ".join(cells) + " |")
    print()
    for (model, method), difference in differences.items():
        if method in ("ensemble", "folds"):  # there is one group of folds
            continue
        cells = []
        for name in ("NLL, annotators", "NLL, vote"):
            gains = difference[name], differences[model, "ensemble"][name]
            low, high = interval_of_ratio(*gains, patients)
            cells.append(f"{gains[0].sum() / gains[1].sum():.2f} ({low:.2f} to {high:.2f})")
        print(f"| {model} | {METHODS[method]} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
