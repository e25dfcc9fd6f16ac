"""The posterior of a toy classifier's last layer against that of laplace-torch."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from nnunet_stochastic.fitting.laplace_choice import log_evidence
from nnunet_stochastic.posteriors.last_layer_curvature import FullCurvature

laplace = pytest.importorskip("laplace")

CLASSES, FEATURES, PRECISION = 3, 6, 0.7


@pytest.fixture
def toy():
    """A classifier, its training data, and laplace-torch's posterior of it; all in float64."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, FEATURES), nn.Tanh(), nn.Linear(FEATURES, CLASSES)).double()
    x, y = torch.randn(200, 4, dtype=torch.float64), torch.randint(CLASSES, (200,))
    posterior = laplace.Laplace(
        network,
        "classification",
        subset_of_weights="last_layer",
        hessian_structure="full",
        prior_precision=torch.tensor([PRECISION], dtype=torch.float64),
    )
    posterior.fit(DataLoader(TensorDataset(x, y), batch_size=64))
    return network, x, posterior


def inputs_of(network, x):
    with torch.no_grad():
        return torch.cat([network[1](network[0](x)), x.new_ones(len(x), 1)], 1)


def curvature_of(network, x):
    with torch.no_grad():
        p = network(x).softmax(1)
    curvature = FullCurvature(CLASSES, FEATURES + 1)
    curvature.add(inputs_of(network, x), p.diag_embed() - p[:, :, None] * p[:, None], torch.ones(len(x)).double())
    return curvature


def test_curvature(toy):
    network, x, posterior = toy
    # There the biases of all classes come behind all other weights.
    place = torch.arange(CLASSES * (FEATURES + 1)).view(CLASSES, -1)
    order = torch.cat([place[:, :-1].flatten(), place[:, -1]])
    torch.testing.assert_close(curvature_of(network, x).matrix[order][:, order], posterior.H, rtol=1e-6, atol=1e-6)


def test_variance_of_logits_and_evidence(toy):
    network, x, posterior = toy
    spectrum, new = curvature_of(network, x).spectrum(), torch.randn(5, 4, dtype=torch.float64)
    _, covariance = posterior._glm_predictive_distribution(new)
    inputs = inputs_of(network, new)
    found = torch.einsum("nf,dfg,ng->nd", inputs, spectrum.covariance_of(torch.eye(CLASSES), 1.0, PRECISION), inputs)
    assert found.max() > 0.5
    torch.testing.assert_close(found, covariance.diagonal(dim1=1, dim2=2), rtol=1e-5, atol=1e-6)

    squared = sum(float(parameter.detach().square().sum()) for parameter in network[2].parameters())
    theirs = [
        float(posterior.log_marginal_likelihood(torch.tensor([value], dtype=torch.float64)).detach())
        for value in (PRECISION, 2.0)
    ]
    ours = [log_evidence(spectrum, squared, 1.0, value) for value in (PRECISION, 2.0)]
    assert ours[1] - ours[0] == pytest.approx(theirs[1] - theirs[0], rel=1e-6)
