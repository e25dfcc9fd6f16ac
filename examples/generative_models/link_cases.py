"""Link the test cases that are shifted, one of each of 40 patients, and half of the validation cases, to calibrate on.

    python link_cases.py RAW SPLITS PATIENTS

RAW is the data set's folder in nnUNet_raw, SPLITS its folds and PATIENTS its table of test cases, from ``splits.py``.
Writes unshifted/images, labels and raters, and validation, into the current folder.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

NUM_PATIENTS = 40


def link(source: Path, target: Path, cases: list[str]) -> None:
    """Links to all files of these cases."""
    target.mkdir(parents=True, exist_ok=True)
    for case in cases:
        for path in sorted(source.glob(f"{case}[_.]*")):
            place = target / path.name
            place.unlink(missing_ok=True)
            place.symlink_to(path.resolve())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raw", type=Path)
    parser.add_argument("splits", type=Path)
    parser.add_argument("patients", type=Path)
    arguments = parser.parse_args()
    first = sorted(pd.read_csv(arguments.patients, dtype=str).groupby("patient")["case"].min())
    spread = np.linspace(0, len(first) - 1, min(NUM_PATIENTS, len(first)))
    tested = [first[round(place)] for place in spread]
    for kind in ("images", "labels", "raters"):
        link(arguments.raw / f"{kind}Ts", Path("unshifted") / kind, tested)
    validated = sorted(json.loads(arguments.splits.read_text())[0]["val"])[::2]
    link(arguments.raw / "imagesTr", Path("validation"), validated)


if __name__ == "__main__":
    main()
