"""One contract for all trainers, in every setting of nnU-Net that they must live with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nnunet_stochastic.checkpoints import read_checkpoint
from nnunet_stochastic.distributions import basis_entropy_loss, kl_to_unit_variance, orthogonality_loss
from nnunet_stochastic.losses import energy_score_loss, k_sample_loss
from nnunet_stochastic.posteriors import ChannelDropout
from nnunet_stochastic.targets import encode_target

STOCHASTIC = [
    "nnUNetTrainerDiagonal",
    "nnUNetTrainerLowRank",
    "nnUNetTrainerSingleBasis",
    "nnUNetTrainerSingleBasisVolume",
    "nnUNetTrainerSingleBasisEnergy",
    "nnUNetTrainerMoB",
    "nnUNetTrainerMoBVolume",
    "nnUNetTrainerMoBEnergy",
]
ALL = ["nnUNetTrainerDeterministic", *STOCHASTIC]
#: Class attributes that make a covariance model.
OPTIONS = ("rank", "num_bases", "partitions", "noise_scope", "basis_selection", "num_training_samples")
STEPPED = ["nnUNetTrainerMoB", "nnUNetTrainerLowRank", "nnUNetTrainerMoBDropout", "nnUNetTrainerMoBEnergy"]
SETTINGS = {
    "2d": {"dimensions": 2},
    "ResEnc": {"residual": True},
    "regions": {"labels": "regions"},
    "ignore label": {"labels": "ignore"},
    "channels": {"channels": 3},
    "cascade": {"cascade": True},
    "thin patch": {"patch": (4, 20, 12)},
}


def ready(trainer):
    """Initialized, with data, as run_training leaves it before the first step."""
    trainer.on_train_start()
    trainer.network.train()
    return trainer


@pytest.mark.parametrize("name", ALL)
def test_trains_from_scratch_and_writes_what_nnunet_writes(make_dataset, name: str) -> None:
    trainer = make_dataset().trainer(name)
    assert trainer.recipe == "scratch"
    assert trainer.num_epochs == 1000
    assert trainer.initial_lr == 1e-2
    trainer.num_epochs, trainer.warm_up_epochs = 2, 1
    ready(trainer)
    before = {key: value.clone() for key, value in trainer.network.state_dict().items()}
    trainer.run_training()
    changed = [key for key, value in trainer.network.state_dict().items() if not torch.equal(value, before[key])]
    assert changed, "training changed no weight"
    if name != "nnUNetTrainerDeterministic":
        assert {key for key in trainer.network.names_of_added_weights() if "log_variance" in key} <= set(changed)
    assert all(torch.isfinite(value).all() for value in trainer.network.state_dict().values())
    losses = trainer.logger.get_value("train_losses", step=None)
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    folder = Path(trainer.output_folder)
    written = {path.name for path in folder.iterdir()}
    assert {"checkpoint_final.pth", "checkpoint_best.pth", "progress.png", "debug.json"} <= written
    checkpoint = read_checkpoint(folder / "checkpoint_final.pth")
    assert checkpoint["trainer_name"] == name


@pytest.mark.parametrize("setting", list(SETTINGS))
@pytest.mark.parametrize("name", STEPPED)
def test_steps_in_every_setting_of_nnunet(make_dataset, name: str, setting: str) -> None:
    trainer = make_dataset(**SETTINGS[setting]).trainer(name)
    trainer.warm_up_epochs = 0
    ready(trainer)
    heads_before = trainer.network.heads.log_variance.weight.clone()
    losses = [float(trainer.train_step(next(trainer.dataloader_train))["loss"]) for _ in range(2)]
    assert np.isfinite(losses).all()
    assert not torch.equal(trainer.network.heads.log_variance.weight, heads_before)
    trainer.network.eval()
    with torch.no_grad():
        result = trainer.validation_step(next(trainer.dataloader_val))
    assert len(result["tp_hard"]) == 2
    assert np.isfinite(result["loss"])


@pytest.mark.parametrize("name", ALL)
def test_dropout_and_swag_trainers_are_their_model(make_dataset, name: str) -> None:
    """The same options, the same weights from the same deterministic checkpoint, and a step that learns."""
    dataset = make_dataset(2)
    deterministic = dataset.trainer("nnUNetTrainer")
    deterministic.initialize()
    deterministic.save_checkpoint(str(Path(deterministic.output_folder) / "checkpoint_final.pth"))
    model = dataset.trainer(name)
    model.initialize()
    for kind, convolutions in (("Dropout", 4), ("SWAG", 0), ("Cyclic", 0)):
        trainer = ready(dataset.trainer(name + kind))
        assert trainer.recipe == "fine_tuning"
        assert trainer.starting_checkpoint == model.starting_checkpoint
        for option in OPTIONS:
            assert getattr(trainer, option, None) == getattr(model, option, None)
        shapes = {key: value.shape for key, value in model.network.state_dict().items()}
        own = {key: value.clone() for key, value in trainer.network.state_dict().items()}
        assert {key: value.shape for key, value in own.items()} == shapes
        for key, value in deterministic.network.state_dict().items():
            assert torch.equal(own[key], value), key
        dropouts = [module for module in trainer.network.modules() if isinstance(module, ChannelDropout)]
        assert [dropout.rate for dropout in dropouts] == [0.2] * convolutions
        assert np.isfinite(trainer.train_step(next(trainer.dataloader_train))["loss"])
        assert any(not torch.equal(value, own[key]) for key, value in trainer.network.state_dict().items())


def test_one_class_is_refused(make_dataset) -> None:
    with pytest.raises(ValueError, match=r"Dataset999_Tiny has one class only \(background\)"):
        make_dataset(labels="one class").trainer("nnUNetTrainerMoB")


def test_training_loss_is_equation_11_and_12(make_dataset) -> None:
    """Deep supervision's weights on the outputs, K samples at the highest resolution, and the regularizers once."""
    trainer = make_dataset().trainer("nnUNetTrainerMoB")
    trainer.warm_up_epochs = 0
    trainer.weight_kl, trainer.weight_orthogonality, trainer.weight_basis_entropy = 0.3, 0.7, 0.2
    ready(trainer)
    batch = next(trainer.dataloader_train)
    outputs, parameters = trainer.network(batch["data"], return_parameters=True)
    torch.manual_seed(0)
    loss = trainer.training_loss(outputs, parameters, batch["target"])
    torch.manual_seed(0)
    distribution = trainer.network.distribution(parameters)
    segmentation_loss, weights = trainer.loss.loss, trainer.loss.weight_factors
    sampled = k_sample_loss(distribution, segmentation_loss, batch["target"][0], 5)
    expected = weights[0] * sampled + sum(
        w * segmentation_loss(o, t) for w, o, t in zip(weights[1:], outputs[1:], batch["target"][1:], strict=True) if w
    )
    expected = expected + 0.3 * kl_to_unit_variance(parameters["diag_var"])
    expected = expected + 0.7 * orthogonality_loss(parameters["bases"])
    expected = expected + 0.2 * basis_entropy_loss(parameters["basis_log_weights"])
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("name", ["nnUNetTrainerMoBEnergy", "nnUNetTrainerSingleBasisEnergy"])
@pytest.mark.parametrize("labels", ["classes", "regions", "ignore"])
def test_training_by_the_energy_score_replaces_the_part_of_the_samples(make_dataset, labels: str, name: str) -> None:
    trainer = make_dataset(labels=labels).trainer(name)
    trainer.warm_up_epochs, trainer.weight_cross_entropy = 0, 0.6
    assert (trainer.initial_scale, trainer.noise_scope) == (2, "volume")
    ready(trainer)
    batch = next(trainer.dataloader_train)
    outputs, parameters = trainer.network(batch["data"], return_parameters=True)
    torch.manual_seed(0)
    loss = trainer.training_loss(outputs, parameters, batch["target"])
    torch.manual_seed(0)
    distribution = trainer.network.distribution(parameters)
    segmentation_loss, weights = trainer.loss.loss, trainer.loss.weight_factors
    regions = labels == "regions"
    target = encode_target(
        batch["target"][0], 2 if regions else 3, regions=regions, ignore_label=3 if labels == "ignore" else None
    )
    sampled = energy_score_loss(distribution, target, 5, regions=regions, weight_cross_entropy=0.6)
    lower = sum(
        w * segmentation_loss(o, t) for w, o, t in zip(weights[1:], outputs[1:], batch["target"][1:], strict=True) if w
    )
    torch.testing.assert_close(loss, weights[0] * sampled + lower + trainer.regularization(parameters))
    loss.backward()
    added = trainer.network.names_of_added_weights()
    assert all(p.grad is not None and p.grad.any() for key, p in trainer.network.named_parameters() if key in added)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_warm_up_is_nnunets_loss_on_the_mean(make_dataset, name: str) -> None:
    trainer = ready(make_dataset().trainer(name))
    assert trainer.in_warm_up
    batch = next(trainer.dataloader_train)
    outputs, parameters = trainer.network(batch["data"], return_parameters=True)
    loss = trainer.training_loss(outputs, parameters, batch["target"])
    torch.testing.assert_close(loss, trainer.loss(outputs, batch["target"]))
    loss.backward()
    # DistributedDataParallel needs a gradient for every weight, and this one must not move the heads.
    added = trainer.network.names_of_added_weights()
    gradients = [p.grad for key, p in trainer.network.named_parameters() if key in added]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)


@pytest.mark.parametrize("labels", ["classes", "regions"])
def test_validation_judges_the_predictive_mean(make_dataset, labels: str) -> None:
    """With a large variance on one class the mean of the softmax is not the softmax of the mean."""
    trainer = make_dataset(labels=labels).trainer("nnUNetTrainerDiagonal")
    trainer.warm_up_epochs = 0
    ready(trainer)
    network = trainer.network.eval()
    nn.init.constant_(network.heads.log_variance.bias, 3.0)
    batch = next(trainer.dataloader_val)
    torch.manual_seed(0)
    with torch.no_grad():
        mean = trainer._predict_mean(batch["data"], network)[0]
        torch.manual_seed(0)
        logits = torch.cat(
            [network.distribution(network(batch["data"], return_parameters=True)[1]).rsample(1) for _ in range(5)]
        )
    if labels == "regions":
        torch.testing.assert_close(mean.sigmoid(), logits.sigmoid().mean(0), rtol=1e-4, atol=1e-5)
    else:
        torch.testing.assert_close(mean.softmax(1), logits.softmax(2).mean(0), rtol=1e-4, atol=1e-5)
        torch.manual_seed(0)
        with torch.no_grad():
            result = trainer.validation_step(batch)
        predicted, target = mean.argmax(1), batch["target"][0][:, 0].long()
        expected = [int(((predicted == c) & (target == c)).sum()) for c in (1, 2)]
        assert result["tp_hard"].tolist() == expected
    assert trainer.network is network
