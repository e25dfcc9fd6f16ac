"""The demo's plans: a small network from nnU-Net's plans, which stay as they are."""

import copy

import pytest

from nnunet_stochastic.datasets.demo_plans import demo_plans

PLANS = {
    "plans_name": "nnUNetPlans",
    "dataset_name": "Dataset901_LungNodulesDemo",
    "configurations": {
        "2d": {},
        "3d_fullres": {
            "data_identifier": "nnUNetPlans_3d_fullres",
            "batch_size": 3,
            "patch_size": [28, 56, 56],
            "median_image_size_in_voxels": [27.0, 51.0, 51.0],
            "spacing": [1.125, 0.703125, 0.703125],
            "normalization_schemes": ["CTNormalization"],
            "architecture": {
                "arch_kwargs": {"n_stages": 4, "features_per_stage": [32, 64, 128, 256], "conv_bias": True}
            },
        },
    },
}


def test_small_network_under_another_name():
    before = copy.deepcopy(PLANS)
    small = demo_plans(PLANS)
    assert before == PLANS
    assert small["plans_name"] == "nnUNetDemoPlans"
    assert list(small["configurations"]) == ["3d_fullres"]
    configuration = small["configurations"]["3d_fullres"]
    assert configuration["data_identifier"] == "nnUNetDemoPlans_3d_fullres"
    assert configuration["patch_size"] == [24, 48, 48]
    assert configuration["spacing"] == [1.25, 0.75, 0.75]
    assert configuration["normalization_schemes"] == ["CTNormalization"]
    assert configuration["architecture"]["arch_kwargs"] == {
        "n_stages": 4,
        "features_per_stage": [8, 16, 32, 64],
        "conv_bias": True,
        "kernel_sizes": [[3, 3, 3]] * 4,
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]],
        "n_conv_per_stage": [2, 2, 2, 2],
        "n_conv_per_stage_decoder": [1, 1, 1],
    }


def test_plans_without_the_configuration_are_refused():
    plans = {"plans_name": "nnUNetPlans", "configurations": {"2d": {}}}
    with pytest.raises(ValueError, match="no configuration 3d_fullres, only 2d"):
        demo_plans(plans)
