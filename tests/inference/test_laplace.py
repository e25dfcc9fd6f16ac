"""Predictions with draws of the last layer: moments by quadrature, and by weights drawn by hand through all layers."""

import numpy as np
import torch

from nnunet_stochastic.distributions import logistic_normal_moments
from nnunet_stochastic.inference import PredictionOptions, StochasticPredictor, load_model
from nnunet_stochastic.maps import epistemic_map, variance_map
from nnunet_stochastic.networks.last_layer import features_of, last_layer_weights
from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.posteriors.last_layer_curvature import curvature_for
from tests.posteriors.laplace_fits import write_fit

TEMPERATURE, PRECISION, NUM_DRAWS = 0.02, 1.0, 300


def write_fitted_model(folders, folder, *, temperature=TEMPERATURE, prior_precision=PRECISION):
    """A model of two classes, and the matrix τ G + δ I of its posterior."""
    folders.write_model_folder(folder)
    model = load_model(folder, folds=(0,))
    weight, _ = last_layer_weights(model.network)
    curvature = curvature_for(weight.shape[0], weight.shape[1] + 1)
    inputs = torch.randn((500, weight.shape[1] + 1), generator=torch.Generator().manual_seed(0))
    curvature.add(inputs, torch.tensor([[0.2, -0.2], [-0.2, 0.2]]).expand(500, 2, 2), torch.ones(500))
    write_fit(model, model.checkpoints[0], curvature, temperature=temperature, prior_precision=prior_precision)
    return model, curvature


def test_moments_over_members_are_those_of_the_gaussian_logit(tmp_path, folders):
    """x ~ N(W φ̃, φ̃ᵀ S φ̃): mean, variance and mutual information; the members of one tile, and weights by hand."""
    folder = tmp_path / "model"
    model, curvature = write_fitted_model(folders, folder)
    weight, bias = last_layer_weights(model.network)
    image = torch.randn((1, 16, 16, 16), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = features_of(model.network, image[None])[0].flatten(1)
        inputs = torch.cat([features, torch.ones_like(features[:1])]).T
        logits = model.network(image[None])[0]
    covariance = curvature.spectrum().covariance_of(torch.tensor([[-1.0, 1.0]]), TEMPERATURE, PRECISION)[0]
    variance = ((inputs.double() @ covariance) * inputs.double()).sum(1).float()
    mean, square, entropy = logistic_normal_moments((logits[1] - logits[0]).flatten(), variance.sqrt())
    information = OutcomeSpace(2).entropy(mean[None]) - entropy
    spread = square - mean.square()
    assert spread.mean() > 0.01
    assert information.mean() > 0.01

    options = PredictionOptions(epistemic="laplace", num_members=NUM_DRAWS, mirroring=False)
    moments = StochasticPredictor.from_model_folder(folder, folds=(0,), options=options).predict_preprocessed(image)
    by_members = moments.mean.flatten(), variance_map(moments).flatten(), epistemic_map(moments).flatten()

    rng = np.random.default_rng(0)
    precision = TEMPERATURE * curvature.matrix.numpy() + PRECISION * np.eye(curvature.matrix.shape[0])
    draws = rng.multivariate_normal(np.zeros(len(precision)), np.linalg.inv(precision), size=NUM_DRAWS)
    trained, probabilities = (weight.clone(), bias.clone()), []
    with torch.no_grad():
        for draw in torch.from_numpy(draws).float().view(NUM_DRAWS, 2, -1):
            weight.copy_(trained[0] + draw[:, :-1].reshape(weight.shape))
            bias.copy_(trained[1] + draw[:, -1])
            probabilities.append(model.network(image[None])[0].softmax(0)[1].flatten())
    p = torch.stack(probabilities)
    space = OutcomeSpace(2)
    drawn_information = space.entropy(p.mean(0)[None]) - torch.stack([space.entropy(each[None]) for each in p]).mean(0)

    for means, variances, informations in (by_members, (p.mean(0), p.var(0, correction=0), drawn_information)):
        # All voxels share the draws: their errors are those of one mean over 300 draws.
        assert ((means - mean).abs() < 4 * (spread / NUM_DRAWS).sqrt() + 1e-3).all()
        torch.testing.assert_close(variances.mean(), spread.mean(), rtol=0.15, atol=0)
        torch.testing.assert_close(informations.mean(), information.mean(), rtol=0.15, atol=0)
        assert np.corrcoef(variances, spread)[0, 1] > 0.98


def test_whole_samples_are_those_of_the_members(tmp_path, folders):
    """Of two tiles: each sample is one draw of the weights in all of the image."""
    folder = tmp_path / "model"
    write_fitted_model(folders, folder)
    options = PredictionOptions(epistemic="laplace", num_members=3, num_saved_samples=3, mirroring=False, step_size=1.0)
    predictor = StochasticPredictor.from_model_folder(folder, folds=(0,), options=options)
    image = folders.image_array(shape=(16, 16, 32))[None]
    prediction = predictor.predict_array(image, {"spacing": [1.0, 1.0, 1.0]})
    data, _ = predictor.preprocess(image, {"spacing": [1.0, 1.0, 1.0]})
    for member, sample in zip(predictor.members, prediction.samples, strict=True):
        member.activate(predictor.model)
        with torch.inference_mode():
            halves = [predictor.model.network(part[None])[0].argmax(0) for part in data.split(16, dim=3)]
        np.testing.assert_array_equal(sample, torch.cat(halves, dim=2))
    assert len({sample.tobytes() for sample in prediction.samples}) == 3


def test_members_in_pairs_keep_the_trained_segmentation(tmp_path, folders):
    """With a posterior so wide that a single member segments another structure."""
    folder = tmp_path / "model"
    model, _ = write_fitted_model(folders, folder, temperature=1e-8, prior_precision=4.0)
    image = folders.image_array()[None]
    trained = StochasticPredictor(model, options=PredictionOptions(epistemic="none", mirroring=False))
    expected = trained.predict_array(image, {"spacing": [1.0, 1.0, 1.0]}).segmentation
    differing = []
    for number in (1, 2, 6):
        options = PredictionOptions(epistemic="laplace", num_members=number, mirroring=False)
        predictor = StochasticPredictor.from_model_folder(folder, folds=(0,), options=options)
        prediction = predictor.predict_array(image, {"spacing": [1.0, 1.0, 1.0]})
        differing.append((prediction.segmentation != expected).mean())
    assert differing[0] > 0.05
    assert differing[1] == differing[2] == 0
    weights = []
    for member in predictor.members:
        member.activate(predictor.model)
        weights.append(torch.cat([each.flatten() for each in last_layer_weights(predictor.model.network)]).clone())
    predictor.model.deactivate_posterior()
    centre = torch.cat([each.flatten() for each in last_layer_weights(predictor.model.network)])
    for one, twin in zip(weights[::2], weights[1::2], strict=True):
        torch.testing.assert_close((one + twin) / 2, centre, rtol=0, atol=1e-5)
        assert (one - twin).abs().max() > 0.1
