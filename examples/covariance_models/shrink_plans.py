"""Write nnUNetSmallPlans.json beside nnUNetPlans.json: the planned network with few features, for two CPU cores.

python shrink_plans.py $nnUNet_preprocessed/Dataset501_LIDC3D 3d_fullres
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

FEATURES = [8, 16, 32, 64, 64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("configuration")
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--patch_size", type=int, nargs="+", help="default: as planned")
    arguments = parser.parse_args()
    folder = arguments.folder
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    plans["plans_name"] = "nnUNetSmallPlans"
    configuration = plans["configurations"][arguments.configuration]
    configuration["batch_size"] = arguments.batch_size
    configuration["patch_size"] = arguments.patch_size or configuration["patch_size"]
    architecture = configuration["architecture"]["arch_kwargs"]
    stages = architecture["n_stages"]
    architecture["features_per_stage"] = (FEATURES + [FEATURES[-1]] * stages)[:stages]
    (folder / "nnUNetSmallPlans.json").write_text(json.dumps(plans, indent=4))


if __name__ == "__main__":
    main()
