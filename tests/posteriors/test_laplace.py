"""The last-layer posterior: its law by closed forms and by sampling weights through a whole network, and its file."""

import dataclasses
import re
import shutil

import pytest
import torch
from torch import nn

from nnunet_stochastic.epistemic import EPISTEMIC_METHODS
from nnunet_stochastic.posteriors import posterior_class
from nnunet_stochastic.posteriors.laplace import LastLayerLaplace
from nnunet_stochastic.posteriors.laplace_fit import LAPLACE_FILE, LaplaceFit
from nnunet_stochastic.posteriors.last_layer_curvature import FullCurvature, KroneckerCurvature
from tests.posteriors.laplace_fits import RECORDED

METHOD = EPISTEMIC_METHODS["laplace"]
FEATURES, TEMPERATURE, PRECISION = 5, 0.5, 2.0


class Decoder(nn.Module):
    def __init__(self, num_logits):
        super().__init__()
        self.seg_layers = nn.ModuleList([nn.Conv3d(FEATURES, num_logits, 1)])


class Network(nn.Module):
    def __init__(self, num_logits):
        super().__init__()
        self.encoder = nn.Conv3d(1, FEATURES, 3, padding=1)
        self.decoder = Decoder(num_logits)

    def features(self, x):
        return torch.tanh(self.encoder(x))

    def forward(self, x):
        return self.decoder.seg_layers[0](self.features(x))


def make_network(num_logits=2):
    torch.manual_seed(0)
    return Network(num_logits)


def make_fit(num_logits=2, *, regions=False, kind=FullCurvature, **changes):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(30, FEATURES + 1, generator=generator, dtype=torch.float64)
    p = torch.rand(30, num_logits, generator=generator, dtype=torch.float64)
    p = p if regions else p / p.sum(1, keepdim=True)
    curvature = kind(num_logits, FEATURES + 1)
    hessian = p * (1 - p) if regions else p.diag_embed() - p[:, :, None] * p[:, None]
    curvature.add(inputs, hessian, torch.ones(30, dtype=torch.float64))
    values = {"temperature": TEMPERATURE, "prior_precision": PRECISION, "checkpoint_sha256": "ab", "plans_sha256": "cd"}
    return LaplaceFit(curvature, regions, **values | RECORDED | changes)


@pytest.fixture
def posterior(tmp_path):
    def make(*arguments, num_members=3, **changes):
        make_fit(*arguments, **changes).save(tmp_path)
        return LastLayerLaplace(METHOD, tmp_path, {"num_members": num_members})

    return make


def members(posterior, network, number):
    """Weights (E, C, F + 1) of members, and the network after each."""
    layer = network.decoder.seg_layers[0]
    drawn = []
    for seed in range(number):
        posterior.deactivate(network)
        posterior.activate(network, torch.Generator().manual_seed(seed))
        drawn.append(torch.cat([layer.weight.flatten(1), layer.bias[:, None]], 1).detach().clone())
    posterior.deactivate(network)
    return torch.stack(drawn)


def test_the_catalogue_has_it():
    assert posterior_class(METHOD) is LastLayerLaplace


@pytest.mark.parametrize(("num_logits", "regions"), [(2, False), (3, False), (3, True)])
@pytest.mark.parametrize("kind", [FullCurvature, KroneckerCurvature])
def test_members_have_the_covariance_of_the_posterior(posterior, num_logits, regions, kind):
    network, made = make_network(num_logits), posterior(num_logits, regions=regions, kind=kind)
    layer = network.decoder.seg_layers[0]
    trained = torch.cat([layer.weight.flatten(1), layer.bias[:, None]], 1).detach().clone()
    moved = (members(made, network, 4000) - trained).flatten(1).double()
    size = num_logits * (FEATURES + 1)
    root = made.fit.spectrum.times_inverse_root(
        torch.eye(size, dtype=torch.float64).view(size, num_logits, -1), TEMPERATURE, PRECISION
    ).flatten(1)
    expected = root @ root
    if not regions:  # without what all classes have in common
        centred = torch.eye(num_logits, dtype=torch.float64) - 1 / num_logits
        projection = torch.kron(centred, torch.eye(FEATURES + 1, dtype=torch.float64))
        expected = projection @ expected @ projection
        torch.testing.assert_close(
            moved.view(-1, num_logits, FEATURES + 1).sum(1).abs().max().item(), 0.0, atol=1e-5, rtol=0
        )
    variances = expected.diagonal()
    assert variances.min() > 0.01
    scale = (variances[:, None] * variances).sqrt()
    # A sample covariance of 4000 draws is off by 1/√4000 = 0.016 of that, and by 4 times as much hardly ever.
    assert ((moved.T @ moved / len(moved) - expected) / scale).abs().max() < 0.075
    assert moved.mean(0).abs().max() < 0.075 * variances.max().sqrt()


def test_common_shifts_of_all_classes_are_left_out_and_change_no_probability(posterior):
    """With and without them the probabilities of a member are the same."""
    network = make_network(3)
    made, image = posterior(3), torch.randn(1, 1, 3, 3, 3)
    layer = network.decoder.seg_layers[0]
    trained = torch.cat([layer.weight.flatten(1), layer.bias[:, None]], 1).detach().clone()
    numbers = torch.randn(3, FEATURES + 1, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    whole = trained + made.fit.spectrum.times_inverse_root(numbers, TEMPERATURE, PRECISION).float()
    made.activate(network, torch.Generator().manual_seed(7))
    with torch.no_grad():
        features = network.features(image)[0].flatten(1)
        expected = (whole[:, :-1] @ features + whole[:, -1:]).softmax(0)
        torch.testing.assert_close(network(image)[0].flatten(1).softmax(0), expected, rtol=1e-5, atol=1e-6)


def test_variance_of_a_logit_is_that_of_weights_sampled_through_the_whole_network(posterior):
    network, made = make_network(), posterior()
    image = torch.randn((1, 1, 4, 4, 4), generator=torch.Generator().manual_seed(0))
    logits = []
    with torch.no_grad():
        for seed in range(3000):
            made.activate(network, torch.Generator().manual_seed(seed))
            output = network(image)[0]
            logits.append((output[1] - output[0]).flatten())
        made.deactivate(network)
        inputs = torch.cat([network.features(image)[0].flatten(1), torch.ones(1, 64)]).T.double()
        expected_mean = (network(image)[0, 1] - network(image)[0, 0]).flatten()
    covariance = made.fit.spectrum.covariance_of(torch.tensor([[-1.0, 1.0]]), TEMPERATURE, PRECISION)[0]
    variance = ((inputs @ covariance) * inputs).sum(1).float()
    sampled = torch.stack(logits)
    torch.testing.assert_close(sampled.var(0), variance, rtol=0.12, atol=0)
    assert ((sampled.mean(0) - expected_mean).abs() < 0.08 * variance.sqrt()).all()


def test_a_member_is_kept_and_the_trained_weights_come_back(posterior):
    network, made = make_network(), posterior()
    layer = network.decoder.seg_layers[0]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    first = members(made, network, 2)
    again = members(made, network, 2)
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert layer.weight.requires_grad


def test_a_weak_or_strong_prior(posterior):
    network = make_network()
    spread = [
        members(posterior(prior_precision=precision), network, 50).std(0).mean().item() for precision in (1e-2, 1e6)
    ]
    assert spread[0] > 0.2  # the data determine the weights
    assert spread[1] == pytest.approx(1e-3 * 0.5**0.5, rel=0.2)


def test_a_generator_of_a_device_or_another_layer_is_refused(posterior):
    made = posterior(3)
    with pytest.raises(ValueError, match="is of a last layer with 3 logits of 5 inputs, that of Network has 2 of 5"):
        made.activate(make_network(2), torch.Generator())
    network = make_network(3)
    network.decoder.seg_layers[0] = nn.Conv3d(FEATURES, 3, 3)
    with pytest.raises(ValueError, match="must be a convolution with a bias that keeps the size"):
        made.activate(network, torch.Generator())


def test_the_file_is_plain_data(tmp_path):
    fit = make_fit(record={"nll": 0.5, "training_cases": ["a", "b"]})
    path = fit.save(tmp_path)
    assert path == tmp_path / LAPLACE_FILE
    assert torch.load(path, weights_only=True)["record"]["training_cases"] == ["a", "b"]
    again = LaplaceFit.load(tmp_path)
    assert torch.equal(again.curvature.matrix, fit.curvature.matrix)
    for field in dataclasses.fields(fit):
        if field.name != "curvature":
            assert getattr(again, field.name) == getattr(fit, field.name)


def test_it_belongs_to_one_checkpoint_and_its_plans(tmp_path):
    fit, checkpoint = make_fit(), tmp_path / "fold_0" / "checkpoint_final.pth"
    fit.require_origin(checkpoint, checkpoint_sha256="ab", plans_sha256="cd")
    with pytest.raises(
        ValueError, match=r"laplace.pth was fitted to another state of .*checkpoint_final.pth .*--overwrite"
    ):
        fit.require_origin(checkpoint, checkpoint_sha256="ac", plans_sha256="cd")
    with pytest.raises(ValueError, match=r"another state of the model's plans.json"):
        fit.require_origin(checkpoint, checkpoint_sha256="ab", plans_sha256="ce")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 1}, r"laplace.pth is of format 1 and not 2; fit it again with .* --overwrite"),
        ({"temperature": "hot"}, "temperature must be a float"),
        ({"temperature": 0.0}, "temperature must be positive and finite"),
        ({"prior_precision": float("inf")}, "prior_precision must be positive and finite"),
        ({"voxels": 0.0}, "voxels must be positive and finite"),
        ({"fitted_against": "majority"}, "fitted_against must be one of labels, raters"),
        ({"num_logits": 0}, "num_logits must be a int"),
        ({"curvature": {"structure": "full"}}, "curvature: matrix must be a tensor"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change, message):
    path = make_fit().save(tmp_path)
    torch.save(torch.load(path, weights_only=True) | change, path)
    with pytest.raises(ValueError, match=message):
        LaplaceFit.load(tmp_path)


def test_a_file_that_was_cut_is_refused(tmp_path):
    path = make_fit().save(tmp_path)
    shutil.copy(path, tmp_path / "whole")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"laplace.pth cannot be read as a checkpoint|laplace.pth"):
        LaplaceFit.load(tmp_path)


def test_the_number_of_determined_weights_is_the_trace_of_the_dense_matrices():
    """tr τ G (τ G + δ I)^(-1): all weights but what classes have in common by many voxels, none by few."""
    size = 3 * (FEATURES + 1)
    identity = torch.eye(size, dtype=torch.float64)
    for temperature in (1e-9, 0.5, 1e6):
        fit = make_fit(3, temperature=temperature)
        scaled = temperature * fit.curvature.matrix
        expected = torch.linalg.solve(scaled + PRECISION * identity, scaled).trace().item()
        assert fit.determined_weights == pytest.approx(expected, rel=1e-6)
    assert fit.determined_weights == pytest.approx(2 * (FEATURES + 1), abs=1e-2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, None),
        ({"temperature": 1e-8}, "count as 0.01 effective voxels and determine .* of 12 weights: .*says nothing of the"),
        ({"prior_precision": 1e6}, "count as 5e+05 effective voxels and determine .* of 12 weights"),
        ({"voxels": 1.0}, "count as 0.5 effective voxels.*; --fit marginal_likelihood takes the temperature"),
        ({"fitted_against": "raters"}, "fitted against the raters' masks and trained on labelsTr: .* counts as epist"),
        ({"trained_against": "raters"}, "fitted against labelsTr and trained on the raters' masks"),
        ({"at_edge": True}, "at the edge of what was searched"),
    ],
)
def test_what_keeps_members_from_being_draws_from_what_the_data_say(change, message):
    notes = make_fit(**change).notes()
    if message is None:
        assert notes == []
    else:
        assert len(notes) == 1
        assert re.search(message.replace("+", r"\+"), notes[0])


def test_a_posterior_that_is_the_prior_is_not_sent_where_it_comes_from():
    (note,) = make_fit(prior_precision=1e6, criterion="marginal_likelihood").notes()
    assert note.endswith("says nothing of the data")
