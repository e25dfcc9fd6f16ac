"""Training ends with a look at samples: it tells those that are empty or fill their patch from those that vary."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from nnunetv2.training.logging.nnunet_logger import MetaLogger

from nnunet_stochastic.distributions import DiagonalGaussian, PointMass
from nnunet_stochastic.targets import encode_target
from nnunet_stochastic.training.sample_check import foreground_shares, warning_about_samples

WARNING = "warning: on "


def test_shares_of_classes() -> None:
    """Of four voxels one is ignored; the annotation has one of the others, the prediction two and the ignored one."""
    target = encode_target(torch.tensor([[[0, 2, 0, 3]], [[3, 3, 3, 3]]]), 3, ignore_label=3)
    logits = torch.zeros(2, 3, 4)
    logits[:, 0, 0] = logits[:, 1, 1] = logits[:, 2, 2] = logits[:, 2, 3] = 1
    [(samples, reference)] = foreground_shares(PointMass(logits), target, regions=False)
    assert samples == pytest.approx([2 / 3] * 5)
    assert reference == pytest.approx(1 / 3)


def test_shares_of_regions() -> None:
    target = encode_target(torch.tensor([[[1.0, 1, 0, 0], [1, 0, 0, 0]]]), 2, regions=True)
    logits = torch.tensor([[[1.0, -1, -1, -1], [1, -1, -1, -1]]])
    assert foreground_shares(PointMass(logits), target, regions=True) == [([0.25] * 5, 0.5)]


@pytest.mark.parametrize(
    ("shares", "found"),
    [
        ([([0.0] * 5, 0.1)] * 2, "on 2 of 2 validation patches with a structure .* (empty on 2)"),
        ([([1.0] * 5, 0.1), ([0.0, 1.0] * 3, 0.2), ([0.1] * 5, 0.1)], "on 2 of 3 .* (full on 1, empty or full on 1)"),
        ([([0.0] * 5, 0.1), ([0.1] * 5, 0.1), ([0.1] * 5, 0.1)], None),  # one structure in three is missed
        ([([0.0] * 5, 0.0)] * 4 + [([0.1] * 5, 0.1)], None),  # patches without a structure tell nothing
        ([([0.0] * 5, 0.0)] * 4, None),
        ([], None),
    ],
)
def test_half_of_the_patches_with_a_structure_decide(shares, found: str | None) -> None:
    warning = warning_about_samples(shares)
    if found is None:
        assert warning is None
    else:
        assert all(part in warning for part in found.split(" .* "))


@pytest.mark.parametrize(
    ("name", "found"), [("nnUNetTrainerDiagonal", "(empty on "), ("nnUNetTrainerProbUNet", "(full on ")]
)
def test_training_ends_with_a_warning(make_dataset, monkeypatch, tiny_generative_models, name: str, found: str) -> None:
    """The average of the weights is what counts, where there is one."""
    monkeypatch.setattr(MetaLogger, "plot_progress_png", lambda *_: None)
    trainer = make_dataset(2).trainer(name)
    trainer.num_epochs = 1
    trainer.on_train_start()
    weights = dict(trainer.network.named_parameters())
    if name == "nnUNetTrainerProbUNet":
        trainer.average.decay = 1 - 1e-12
        trainer.average.num_updates = 10**9
        weights = trainer.average.weights
    bias = weights["latent_decoder.output.bias" if "ProbUNet" in name else "decoder.seg_layers.1.bias"]
    with torch.no_grad():
        bias.copy_(torch.tensor([100.0, 0, 0] if "empty" in found else [0.0, 100, 0]))
    monkeypatch.setattr(trainer, "on_train_start", lambda: None)
    trainer.run_training()
    log = Path(trainer.log_file).read_text()
    assert log.index("Training done.") < log.index(WARNING) < log.index(found)
    assert (Path(trainer.output_folder) / "checkpoint_final.pth").is_file()


@pytest.mark.parametrize("labels", ["classes", "regions", "ignore"])
def test_samples_that_follow_the_image_are_left_without_a_word(make_dataset, labels: str) -> None:
    trainer = make_dataset(2, labels=labels).trainer("nnUNetTrainerDiagonal")
    trainer.on_train_start()
    classes = trainer.label_manager.num_segmentation_heads

    def follow(x: torch.Tensor) -> DiagonalGaussian:
        foreground = 4 * (x - 0.5)
        mean = torch.cat([*[-foreground] * (labels != "regions"), foreground], 1)
        mean = torch.cat([mean, torch.full_like(x, -9.0).expand(-1, classes - mean.shape[1], *x.shape[2:])], 1)
        return DiagonalGaussian(mean, torch.ones_like(mean))

    batches = [next(trainer.dataloader_val) for _ in range(4)]
    trainer.network.logit_distribution = follow
    trainer.check_samples(batches)
    assert WARNING not in Path(trainer.log_file).read_text()
    trainer.network.logit_distribution = lambda x: PointMass(torch.full((len(x), classes, *x.shape[2:]), -9.0))
    trainer.check_samples(batches)
    assert WARNING in Path(trainer.log_file).read_text()


@pytest.mark.parametrize("name", ["nnUNetTrainerDeterministic", "nnUNetTrainerSoftmax"])
def test_a_deterministic_network_is_asked_for_no_samples(
    make_dataset, monkeypatch, tiny_generative_models, name: str
) -> None:
    monkeypatch.setattr(MetaLogger, "plot_progress_png", lambda *_: None)
    trainer = make_dataset(2).trainer(name)
    monkeypatch.setattr(trainer, "check_samples", lambda _: pytest.fail("it has none"))
    trainer.num_epochs = 1
    trainer.run_training()
