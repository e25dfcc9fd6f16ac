"""The generative models in inference: asked for the same as every other network, and nothing by their names."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_stochastic.inference import PredictionOptions, StochasticPredictor
from nnunet_stochastic.inference.samples import SampleDraw
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.inference.sliding_window import View, tile_weights, tiles
from nnunet_stochastic.inference.voxel_noise import voxel_noise
from nnunet_stochastic.networks import (
    DiffusionNetwork,
    ProbabilisticUNet,
    SoftmaxNetwork,
    StochasticSegmentationNetwork,
)
from nnunet_stochastic.outcomes import OutcomeSpace

TINY = {"base_channels": 4, "channel_multipliers": (1, 2)}
RANDOM = [
    (StochasticSegmentationNetwork, {"rank": 2}),
    (ProbabilisticUNet, {}),
    (DiffusionNetwork, {"num_steps": 2, "num_mean_samples": 2}),
]
ALL = [(SoftmaxNetwork, {}), *RANDOM]
PATCH = (8, 8)


@pytest.fixture
def predictor(tmp_path, folders, find_trainer):
    """Builds a predictor of two folds of a network, in 2D."""

    def build(kind, arguments, *, same_weights=False, folds=(0,), **options) -> StochasticPredictor:
        class Trainer(nnUNetTrainer):
            @staticmethod
            def build_network_architecture(
                plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision
            ):
                return kind(num_input_channels, num_output_channels, dimension=2, **TINY, **arguments)

        folder = tmp_path / "model"
        if not folder.exists():
            find_trainer(Trainer)
            folders.write_model_folder(folder, trainer=Trainer, dimension=2, patch_size=8, folds=(0, 1))
        if same_weights:
            shutil.copy(folder / "fold_0" / "checkpoint_final.pth", folder / "fold_1" / "checkpoint_final.pth")
        return StochasticPredictor.from_model_folder(folder, folds=folds, options=PredictionOptions(**options))

    return build


@pytest.mark.parametrize(("kind", "arguments"), ALL)
def test_every_model_has_its_maps(kind, arguments, predictor, folders) -> None:
    image = folders.image_array(shape=(1, 8, 11))[None]
    built = predictor(kind, arguments, folds=(0, 1), num_samples=3, num_saved_samples=2)
    prediction = built.predict_array(image, {"spacing": [1.0, 1.0, 1.0]})
    expected = {"total", "aleatoric", "epistemic", "variance"} if kind.has_samples else {"total", "variance"}
    assert expected <= set(prediction.maps)
    assert 0 < prediction.maps["total"].mean() <= np.log(2)
    assert prediction.maps["variance"].mean() > 0
    assert len(prediction.samples) == 2


@pytest.mark.parametrize(("kind", "arguments"), RANDOM)
def test_a_sample_is_made_of_one_noise_for_the_whole_image(sweeping, kind, arguments) -> None:
    """Tiles get parts of the noise of their image, and their logits are blended."""
    torch.manual_seed(0)
    network = kind(1, 2, dimension=2, **TINY, **arguments).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    image = torch.randn(1, 1, 8, 13)
    image_tiles = tiles(image.shape[1:], PATCH, 0.5)
    weights = tile_weights(PATCH)
    whole = (0, slice(0, 8), slice(0, 13))
    view = View((1,))
    swept = sweeping.sweep(
        network,
        image,
        OutcomeSpace(2),
        patch_size=PATCH,
        blends_laws=network.is_gaussian,
        draws=[SampleDraw(5, (view,))],
        seed=3,
        case="a",
    )
    key = NoiseKey(3, "a")
    total, total_weight = torch.zeros(2, 1, 8, 13), torch.zeros(1, 8, 13)
    with torch.inference_mode():
        for tile in image_tiles:
            distribution = network.logit_distribution(image[(slice(None), *tile)][None].flip(3))
            noise = voxel_noise(whole, distribution.noise_channels, noise=key, sample=5)
            shared = torch.randn(distribution.shared_noise_channels, generator=key.generator("shared noise", 5))
            own = noise[(slice(None), *tile[1:])].flip(2)
            logits = distribution.transform(own[None, None], shared[None, None])[0, 0].flip(2)
            total[(slice(None), *tile)] += weights * logits
            total_weight[tile] += weights
    assert len(image_tiles) > 1
    logits = total / total_weight
    torch.testing.assert_close(swept.samples[0], logits[1:] - logits[:1], atol=1e-4, rtol=1e-4)
    assert swept.samples.sigmoid().std() > 1e-3


@pytest.mark.parametrize(("num_samples", "num_saved", "more"), [(16, 8, 0), (16, 11, 3), (3, 7, 4)])
def test_diffusion_denoises_no_sample_of_its_maps_again(predictor, num_samples, num_saved, more) -> None:
    """16 samples in four views hold one whole sample of each view for each of two members. Three samples hold none of
    the last view and none of the second member."""

    def patches(count) -> int:
        options = {"num_samples": num_samples, "num_saved_samples": count, "estimator": "mc"}
        built = predictor(DiffusionNetwork, {"num_steps": 2}, folds=(0, 1), **options)
        seen, taken = [], []
        built.model.network.unet.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
        built.predict_grid(torch.randn(1, 1, 8, 13), on_sample=lambda index, _: taken.append(index))
        assert sorted(taken) == list(range(count))
        return sum(seen)

    assert patches(num_saved) - patches(0) == 3 * 2 * more


@pytest.mark.parametrize(("kind", "arguments"), ALL)
def test_members_with_the_same_weights_are_found(kind, arguments, predictor) -> None:
    built = predictor(kind, arguments, folds=(0, 1), same_weights=True, num_samples=1, mirroring=False)
    with pytest.raises(ValueError, match="members fold_0 and fold_1 predict the same"):
        built.predict_preprocessed(torch.randn(1, 1, 8, 8))


@pytest.mark.parametrize(("kind", "arguments"), ALL)
def test_how_tiles_and_views_are_put_together_and_moments_taken(kind, arguments, predictor) -> None:
    built = predictor(kind, arguments, num_samples=6)
    settings = built.settings()
    blended = kind.is_gaussian or not kind.has_samples
    assert settings["tiles_and_views"] == ("blended as laws of the logits" if blended else "averaged as probabilities")
    assert settings["estimator"] == ("none" if not kind.has_samples else "exact" if kind.is_gaussian else "mc")
    counts = [None] * 4 if blended else [2, 2, 1, 1]
    names = ("mirrored", "mirrored 0", "mirrored 1", "mirrored 0 1")
    assert settings["views"] == dict(zip(names, counts, strict=True))
    assert any("averaged as probabilities" in note for note in settings["notes"]) == (not blended)


@pytest.mark.parametrize(("kind", "arguments"), ALL)
def test_the_exact_estimator_is_for_gaussian_models(kind, arguments, predictor) -> None:
    if kind.is_gaussian:
        exact = predictor(kind, arguments, estimator="exact").predict_preprocessed(torch.randn(1, 1, 8, 8))
        assert exact.mean.isfinite().all()
        return
    with pytest.raises(
        ValueError, match="are not Gaussian: use the estimator 'mc'" if kind.has_samples else "has none"
    ):
        predictor(kind, arguments, estimator="exact")
