"""Options that trainers take over from what they build."""

from __future__ import annotations

import pytest
from torch import nn

from nnunet_stochastic.training import (
    BasisTrainer,
    DiagonalTrainer,
    DiffusionTrainer,
    LowRankTrainer,
    ProbUNetTrainer,
    SoftmaxTrainer,
    SSNTrainer,
    SwagTrainer,
)
from nnunet_stochastic.training.options import options_of

ATTENTION_UNET = {"base_channels": 32, "channel_multipliers": (1, 2, 4, 8)}


@pytest.mark.parametrize(
    ("trainer", "options"),
    [
        (DiagonalTrainer, {"log_variance_bias": -3.0}),
        (LowRankTrainer, {"rank": 16, "factor_scale": 0.2, "log_variance_bias": -3.0}),
        (
            BasisTrainer,
            {
                **{"rank": 16, "num_bases": 3, "partitions": 4, "noise_scope": "voxel"},
                **{"basis_selection": "straight_through", "temperature": 0.3, "initial_scale": 0.7},
                "log_variance_bias": -3.0,
            },
        ),
        (SoftmaxTrainer, ATTENTION_UNET),
        (SSNTrainer, {"rank": 10} | ATTENTION_UNET),
        (ProbUNetTrainer, ATTENTION_UNET | {"latent_channels": 6, "base_channels": 24}),
        (DiffusionTrainer, {"num_steps": 10, "input_scale": 0.1, "num_mean_samples": 4} | ATTENTION_UNET),
    ],
)
def test_defaults_are_attributes_of_the_trainer(trainer: type, options: dict) -> None:
    assert {name: getattr(trainer, name) for name in options} == options


def test_an_attribute_of_a_subclass_reaches_the_heads_and_no_other_trainer() -> None:
    class FiveBases(BasisTrainer):
        num_bases, rank = 5, 2

    layer = nn.Conv3d(8, 3, 1)
    assert FiveBases.build_heads(layer).bases.shape == (5, 3, 2)
    assert BasisTrainer.build_heads(layer).bases.shape == (3, 3, 16)


def test_all_options_of_a_trainer_and_nothing_else() -> None:
    class FiveBases(SwagTrainer, BasisTrainer):
        num_bases = 5
        something_else = 3

    trainer = FiveBases.__new__(FiveBases)
    trainer.rank = 2
    options = {
        **{"train_on_raters": True, "gradient_norm_limit": 12.0, "deterministic_trainer": "nnUNetTrainer"},
        **{"fine_tuning_epochs": 20, "fine_tuning_learning_rate": 1e-4, "fine_tuning_weight_decay": 1e-4},
        **{"scratch_epochs": None, "num_training_samples": 5, "weight_kl": 5e-4, "warm_up_epochs": 10},
        **{"head_learning_rate_factor": 10.0, "recompute_samples": True, "weight_orthogonality": 1.0},
        **{"weight_basis_entropy": 0.1, "rank": 16, "num_bases": 5, "partitions": 4, "noise_scope": "voxel"},
        **{"basis_selection": "straight_through", "temperature": 0.3, "initial_scale": 0.7, "log_variance_bias": -3.0},
        **{"num_snapshots": 30, "snapshot_spacing": 1},
        **{"snapshot_learning_rate": 1e-3, "scratch_snapshot_learning_rate_factor": 0.1},
    }
    assert options_of(FiveBases) == options
    assert options_of(trainer) == options | {"rank": 2}


def test_what_a_class_says_itself_is_not_overwritten() -> None:
    class Wide(LowRankTrainer):
        heads_class = LowRankTrainer.heads_class
        rank = 7

    class Mixin:
        log_variance_bias = 0.5

    class Mixed(Mixin, LowRankTrainer):
        heads_class = LowRankTrainer.heads_class

    assert (Wide.rank, Wide.factor_scale) == (7, 0.2)
    assert (Mixed.rank, Mixed.log_variance_bias) == (16, 0.5)
