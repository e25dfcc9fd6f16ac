"""Tiles and views as the mean of their probabilities, on request."""

import numpy as np
import pytest
import torch

from nnunet_stochastic.inference import StochasticPredictor
from nnunet_stochastic.inference.model import load_weights
from nnunet_stochastic.inference.restore import GridPrediction
from nnunet_stochastic.inference.settings import AVERAGED
from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.training import BasisTrainer, LowRankTrainer
from tests.inference import predictors
from tests.inference.predictors import PROPERTIES, blend, logit_law


def build(folder, **options) -> StochasticPredictor:
    return predictors.build(folder, tiles_and_views="average", **options)


def moments_of_logit(mean, std):
    """E[p], E[p²] and E[H(p)] by the trapezoid rule with 1,001 nodes, float64, on a new axis 1."""
    nodes = np.linspace(-8, 8, 1001)
    weights = np.exp(-(nodes**2) / 2)
    total = 0
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        p = torch.sigmoid(mean + std * node)
        total = total + weight * torch.stack([p, p.square(), torch.special.entr(p) + torch.special.entr(1 - p)], 1)
    return total


def law(network, patch):
    return moments_of_logit(*logit_law(network, patch).unbind(1))


def test_deterministic_members_average_the_probabilities_of_tiles_and_mirrors(tmp_path, folders):
    predictor = build(folders.write_model_folder(tmp_path / "model", folds=(0, 1)), folds=(0, 1))
    data = torch.randn((1, 20, 27, 16), generator=torch.Generator().manual_seed(0))
    members = []
    for checkpoint in predictor.model.checkpoints:
        load_weights(predictor.model, checkpoint)
        members.append(blend(predictor.model.network, data, lambda network, patch: network(patch).softmax(1))[1])
    moments = predictor.predict_preprocessed(data)
    torch.testing.assert_close(moments.mean[0].double(), sum(members) / 2, atol=1e-5, rtol=0)
    squares = sum(member.square() for member in members) / 2
    torch.testing.assert_close(moments.second_moment.double(), squares, atol=1e-5, rtol=0)
    alone = build(predictor.model.folder).predict_preprocessed(data)
    torch.testing.assert_close(alone.mean[0].double(), members[0], atol=1e-5, rtol=0)
    assert predictor.settings()["tiles_and_views"] == AVERAGED
    assert "as asked for" in " ".join(predictor.settings()["notes"])


@pytest.mark.parametrize("trainer", [LowRankTrainer, BasisTrainer])
def test_gaussian_members_average_the_moments_of_each_tile_and_mirror(tmp_path, folders, find_trainer, trainer):
    folder = folders.write_model_folder(tmp_path / "model", trainer=find_trainer(trainer))
    data = torch.randn((1, 16, 20, 16), generator=torch.Generator().manual_seed(0))
    exact = build(folder)
    assert exact.estimator == "exact"
    mean, square, entropy = blend(exact.model.network, data, law)
    moments = exact.predict_preprocessed(data)
    torch.testing.assert_close(moments.mean[0].double(), mean, atol=1e-4, rtol=0)
    torch.testing.assert_close(moments.second_moment.double(), square, atol=1e-4, rtol=0)
    torch.testing.assert_close(moments.expected_entropy.double(), entropy, atol=1e-4, rtol=0)
    sampled = build(folder, estimator="mc", num_samples=64).predict_preprocessed(data)
    assert (sampled.mean[0] - mean).abs().mean() < 0.02  # of samples of an sd of at most a half
    assert (sampled.expected_entropy - entropy).abs().mean() < 0.02


def test_a_whole_sample_is_of_one_view(tmp_path, folders):
    """A deterministic network has as many outcomes as views; blended, it has one."""
    folder = folders.write_model_folder(tmp_path / "model")
    image = folders.image_array()[None]
    samples = build(folder, num_saved_samples=8).predict_array(image, PROPERTIES).samples
    assert len({sample.tobytes() for sample in samples}) == 8
    plain = predictors.build(folder, mirroring=False, num_saved_samples=1)
    np.testing.assert_array_equal(samples[0], plain.predict_array(image, PROPERTIES).samples[0])
    with pytest.raises(ValueError, match="one per member and view, here 1 x 8"):
        build(folder, num_saved_samples=9)


def test_probabilities_are_resampled_to_the_image(tmp_path, folders):
    """Half way between a voxel of p = 1/2 and one that is sure lies 3/4, where logits would have almost 1."""
    folder = folders.write_model_folder(tmp_path / "model", spacing=(1.0, 1.0, 1.0), patch_size=8)
    average = build(folder, mirroring=False)
    blended = predictors.build(folder, mirroring=False)
    data, properties = average.preprocess(np.random.default_rng(0).random((1, 4, 4, 16)), {"spacing": [1.0, 1.0, 0.5]})
    assert data.shape[1:] == (4, 4, 8)
    log_ratios = torch.zeros(1, 4, 4, 8)
    log_ratios[..., 4:] = 40
    found = {}
    for name, predictor in (("average", average), ("blend", blended)):
        grid = GridPrediction(OutcomeSpace(2), log_ratios, None, None, averages_probabilities=name == "average")
        found[name] = predictor.restore(grid, properties, probabilities=True).probabilities[1, 0, 0]
    np.testing.assert_allclose(found["average"][6:10], [0.5, 0.625, 0.875, 1.0], atol=1e-6)
    np.testing.assert_allclose(found["blend"][6:10], [0.5, *(1 / (1 + np.exp([-10.0, -30.0]))), 1.0], atol=1e-6)
    assert average.predict_grid(data).averages_probabilities
    assert not blended.predict_grid(data).averages_probabilities
