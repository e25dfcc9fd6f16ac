"""What each generative model's trainer takes from its paper: network, recipe, options, and the phases of its loss.

Christensen et al., Rethinking Uncertainty Quantification and Entanglement in Image Segmentation (ENT).
"""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch

from nnunet_stochastic.losses import cross_entropy_loss, gaussian_kl
from nnunet_stochastic.posteriors import ChannelDropout
from nnunet_stochastic.training import DiffusionTrainer, GenerativeTrainer, ProbUNetTrainer, SnapshotTrainer, SSNTrainer

MODELS = ["nnUNetTrainerSoftmax", "nnUNetTrainerSSN", "nnUNetTrainerProbUNet", "nnUNetTrainerDiffusion"]
ALL = [name + kind for name in MODELS for kind in ("", "Dropout", "SWAG")]
#: Million parameters with 3 channels and 3 classes: ENT, section 3.3.
SIZES = dict(zip(MODELS, (15.79, 15.80, 16.89, 15.81), strict=True))


def ready(trainer):
    """Initialized, with data, as run_training leaves it before the first step."""
    trainer.on_train_start()
    trainer.network.train()
    return trainer


def scatter_weights(trainer) -> None:
    """Zero-initialised layers would hide what depends on the network."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in trainer.network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("name", MODELS)
def test_size_of_the_paper(make_dataset, name: str) -> None:
    """The trainers ask for the widths, the rank and the latent that its numbers of parameters follow from."""
    trainer = make_dataset(2, channels=3).trainer(name)
    with torch.device("meta"):
        network = trainer.build_network_architecture(trainer.plans_manager, trainer.configuration_manager, 3, 3)
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(SIZES[name], rel=0.01)


@pytest.mark.parametrize("name", ALL)
def test_recipe_of_the_paper(make_dataset, name: str, tiny_generative_models) -> None:
    trainer = make_dataset(2).trainer(name)
    trainer.initialize()
    assert trainer.num_epochs == (500 if "ProbUNet" in name else 1000)
    assert type(trainer.optimizer) is torch.optim.AdamW
    for epoch in (0, 400, 999):
        trainer.lr_scheduler.step(epoch)
        assert [(group["lr"], group["weight_decay"]) for group in trainer.optimizer.param_groups] == [(1e-4, 0)]
    assert trainer.gradient_norm_limit == 0.5
    assert trainer.average.decay == 0.999
    dropouts = [module.rate for module in trainer.network.modules() if isinstance(module, ChannelDropout)]
    assert set(dropouts) == ({0.2} if name.endswith("Dropout") else set())
    assert isinstance(trainer, SnapshotTrainer) == name.endswith("SWAG")


def test_options_of_the_paper() -> None:
    assert (SSNTrainer.rank, SSNTrainer.mean_epochs) == (10, 10)
    assert (ProbUNetTrainer.latent_channels, ProbUNetTrainer.kl_weight) == (6, 5e-4)
    assert (DiffusionTrainer.num_steps, DiffusionTrainer.input_scale) == (10, 0.1)
    assert SnapshotTrainer.num_snapshots == 30


@pytest.mark.parametrize(("dimensions", "planned", "expected"), [(2, 7, 32), (3, 7, 7)])
def test_batch_size_is_the_papers_in_2d_and_planned_in_3d(make_dataset, dimensions, planned, expected) -> None:
    dataset = make_dataset(dimensions)
    dataset.plans["configurations"][dataset.configuration]["batch_size"] = planned
    trainer = dataset.trainer("nnUNetTrainerSoftmax")
    trainer._set_batch_size_and_oversample()
    assert trainer.batch_size == expected
    assert trainer.plans_manager.plans["configurations"][dataset.configuration]["batch_size"] == planned


@pytest.mark.parametrize("name", MODELS)
def test_dropout_acts_in_training_and_not_in_validation(make_dataset, name: str, tiny_generative_models) -> None:
    dataset = make_dataset(2, patch=(8, 8))
    plain, trainer = ready(dataset.trainer(name)), ready(dataset.trainer(name + "Dropout"))
    assert np.isfinite(trainer.train_step(next(trainer.dataloader_train))["loss"])
    scatter_weights(trainer)
    batch = next(trainer.dataloader_train)
    target = trainer.encode(batch["target"])
    losses = {}
    for training in (True, False):
        trainer.network.train(training)
        plain.network.train(training)
        plain.network.load_state_dict(trainer.network.state_dict())
        for one in (plain, trainer):
            with mock.patch.object(torch, "randn_like", torch.zeros_like), mock.patch.object(torch, "rand", torch.ones):
                losses[one, training] = float(one.training_loss(one.network(batch["data"], target), target))
    assert losses[trainer, False] == pytest.approx(losses[plain, False], rel=1e-6)
    assert losses[trainer, True] != pytest.approx(losses[plain, True], rel=1e-6)


def test_weight_of_the_kl_divergence_rises_over_32_epochs(make_dataset, monkeypatch, tiny_generative_models) -> None:
    trainer = ready(make_dataset(2).trainer("nnUNetTrainerProbUNet"))
    weights = {0: 0.0, 1: 5e-4 / 32, 8: 1.25e-4, 16: 2.5e-4, 31: 5e-4 * 31 / 32, 32: 5e-4, 400: 5e-4}
    scatter_weights(trainer)
    batch = next(trainer.dataloader_train)
    target = trainer.encode(batch["target"])
    outputs = trainer.network(batch["data"], target)
    divergence = gaussian_kl(
        outputs["posterior_mean"], outputs["posterior_std"], outputs["prior_mean"], outputs["prior_std"]
    ).mean()
    assert divergence > 0
    reconstruction = cross_entropy_loss(outputs["logits"], target)
    for epoch, weight in weights.items():
        trainer.current_epoch = epoch
        assert trainer.current_kl_weight == pytest.approx(weight)
        torch.testing.assert_close(trainer.training_loss(outputs, target), reconstruction + weight * divergence)
    monkeypatch.setattr(ProbUNetTrainer, "kl_warm_up_epochs", 0)
    trainer.current_epoch = 0
    assert trainer.current_kl_weight == 5e-4


@pytest.mark.parametrize(
    ("patch", "weight", "of_sum", "papers"),
    [
        ((128, 128), 5e-4, "8.19", None),
        ((32, 32), 5e-4 * 16, "8.19", None),
        ((32, 32), 5e-4, "0.512", "0.008"),
        ((512, 512), 5e-4, "131", "3.1e-05"),
        ((256, 256), 2.5e-3, "164", "0.00013"),
        ((96, 96), 2.5e-3, "23", None),
    ],
)
def test_weight_of_the_kl_divergence_is_told_against_the_sum_over_a_patch(
    make_dataset, monkeypatch, tiny_generative_models, patch, weight, of_sum, papers
) -> None:
    trainer = make_dataset(2).trainer("nnUNetTrainerProbUNet")
    lines: list[str] = []
    monkeypatch.setattr(GenerativeTrainer, "on_train_start", lambda self: None)
    monkeypatch.setattr(trainer, "print_to_log_file", lambda *words: lines.append(" ".join(words)))
    monkeypatch.setattr(ProbUNetTrainer, "kl_weight", weight)
    trainer.configuration_manager.configuration["patch_size"] = list(patch)
    trainer.on_train_start()
    (line,) = lines
    assert f"as {of_sum} has against their sum" in line
    assert line.startswith("warning: ") == (papers is not None)
    assert papers is None or f"kl_weight would be {papers} here" in line


def test_ssn_trains_its_mean_alone_for_10_epochs(make_dataset, tiny_generative_models) -> None:
    trainer = ready(make_dataset(2).trainer("nnUNetTrainerSSN"))
    scatter_weights(trainer)
    batch = next(trainer.dataloader_train)
    target = trainer.encode(batch["target"])
    heads: dict[bool, list[str]] = {}
    for epoch, in_mean_phase in ((0, True), (9, True), (10, False)):
        trainer.current_epoch = epoch
        assert trainer.in_mean_phase == in_mean_phase
        trainer.optimizer.zero_grad()
        outputs = trainer.network(batch["data"], target)
        loss = trainer.training_loss(outputs, target)
        likelihood = cross_entropy_loss(outputs["mean_logits"], target)
        assert torch.isclose(loss, likelihood) == in_mean_phase
        loss.backward()
        gradients = {key: parameter.grad for key, parameter in trainer.network.named_parameters()}
        assert all(gradient is not None for gradient in gradients.values()), "DistributedDataParallel waits for each"
        heads[in_mean_phase] = [key for key, gradient in gradients.items() if not gradient.any()]
        with torch.no_grad():
            mean = trainer.predict_mean(trainer.network, batch["data"])
            assert torch.equal(mean, trainer.network(batch["data"])) == in_mean_phase
    assert len(heads[True]) == 4, "weight and bias of the variance and of the factor"
    assert heads[False] == []
