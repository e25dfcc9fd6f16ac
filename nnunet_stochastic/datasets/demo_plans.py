"""The demo's plans: nnU-Net's own, made small enough to train in minutes on two CPU cores.

A plans file may be edited and saved under another name (nnU-Net's documentation, "Modifying the nnU-Net
Configurations"); trainers and commands then take it by `-p nnUNetDemoPlans`.
"""

from __future__ import annotations

import copy

__all__ = ["DEMO_CONFIGURATION", "DEMO_PLANS", "demo_plans"]

DEMO_PLANS = "nnUNetDemoPlans"
DEMO_CONFIGURATION = "3d_fullres"

# About the median spacing, and the patch that holds a whole simulated image of 30 x 36 x 36 mm: one tile per image.
SPACING_MM = [1.25, 0.75, 0.75]
PATCH_SIZE = [24, 48, 48]
BATCH_SIZE = 2
FEATURES = [8, 16, 32, 64]  # nnU-Net plans 32 to 320


def demo_plans(plans: dict) -> dict:
    """nnU-Net's plans of the demo's data set, reduced to one small 3D configuration; `plans` stays as it is."""
    if DEMO_CONFIGURATION not in plans["configurations"]:
        raise ValueError(
            f"the plans {plans['plans_name']} have no configuration {DEMO_CONFIGURATION}, only"
            f" {', '.join(plans['configurations'])}; plan with `-c {DEMO_CONFIGURATION}`"
        )
    small = copy.deepcopy(plans)
    small["plans_name"] = DEMO_PLANS
    configuration = small["configurations"][DEMO_CONFIGURATION]
    small["configurations"] = {DEMO_CONFIGURATION: configuration}
    configuration["data_identifier"] = f"{DEMO_PLANS}_{DEMO_CONFIGURATION}"  # its own folder of preprocessed images
    configuration["spacing"] = SPACING_MM
    configuration["patch_size"] = configuration["median_image_size_in_voxels"] = PATCH_SIZE
    configuration["batch_size"] = BATCH_SIZE
    stages = len(FEATURES)
    configuration["architecture"]["arch_kwargs"] |= {
        "n_stages": stages,
        "features_per_stage": FEATURES,
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [1] * (stages - 1),
    }
    return small
