"""Write splits.json, folds of nnU-Net by patient, and patients.csv of the test cases, into the current folder.

    python splits.py SOURCE NUM_VALIDATION

SOURCE has cases.json, {case: {"part": "Tr" or "Ts", "patient": …}}. Folds 0 to 9 are one and the same split, with at
most NUM_VALIDATION cases to validate; folds 10 to 14 are five cross-validation folds of its training cases.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("num_validation", type=int)
    arguments = parser.parse_args()
    cases = json.loads((arguments.source / "cases.json").read_text())
    by_patient: dict[str, list[str]] = {}
    for case, known in sorted(cases.items()):
        if known["part"] == "Tr":
            by_patient.setdefault(known["patient"], []).append(case)
    patients = sorted(by_patient)
    random.Random(0).shuffle(patients)
    validation, training = [], []
    for patient in patients:
        fits = len(validation) + len(by_patient[patient]) <= arguments.num_validation
        (validation.extend if fits else training.append)(by_patient[patient])
    fifths: list[list[str]] = [[] for _ in range(5)]
    for of_patient in training:
        min(fifths, key=len).extend(of_patient)
    trained = [case for of_patient in training for case in of_patient]
    splits = [{"train": sorted(trained), "val": sorted(validation)}] * 10
    splits += [{"train": sorted(set(trained) - set(fifth)), "val": sorted(fifth)} for fifth in fifths]
    Path("splits.json").write_text(json.dumps(splits, indent=1))
    tested = [f"{case},{known['patient']}\n" for case, known in sorted(cases.items()) if known["part"] == "Ts"]
    Path("patients.csv").write_text("case,patient\n" + "".join(tested))


if __name__ == "__main__":
    main()
