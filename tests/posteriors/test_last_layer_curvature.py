"""Curvature and its spectrum against dense matrices, and against the Hessian by automatic differentiation."""

import pytest
import torch
from torch.nn import functional

from nnunet_stochastic.posteriors import last_layer_curvature
from nnunet_stochastic.posteriors.last_layer_curvature import (
    FullCurvature,
    KroneckerCurvature,
    LastLayerCurvature,
    curvature_for,
)

VOXELS, INPUTS = 40, 4


def draw(num_logits, *, seed=0, voxels=VOXELS):
    """Inputs (N, F + 1), trained weights (C, F + 1) and weights of voxels (N), float64."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(voxels, INPUTS, generator=generator, dtype=torch.float64)
    inputs[:, -1] = 1
    return (
        inputs,
        torch.randn(num_logits, INPUTS, generator=generator, dtype=torch.float64),
        torch.rand(voxels, generator=generator, dtype=torch.float64),
    )


def softmax_hessian(logits):
    p = logits.softmax(1)
    return p.diag_embed() - p[:, :, None] * p[:, None]


def sigmoid_hessian(logits):
    p = logits.sigmoid()
    return p * (1 - p)


def summed(kind, num_logits, *, hessian=softmax_hessian, seed=0, voxels=VOXELS):
    inputs, weights, counts = draw(num_logits, seed=seed, voxels=voxels)
    curvature = kind(num_logits, INPUTS)
    curvature.add(inputs, hessian(inputs @ weights.T), counts)
    return curvature


def dense(curvature):
    """G of a curvature as a matrix."""
    if isinstance(curvature, FullCurvature):
        return curvature.matrix
    outputs, inputs = curvature.tensors["outputs"], curvature.tensors["inputs"]
    return torch.kron(outputs / outputs.trace(), inputs)


@pytest.mark.parametrize("num_logits", [2, 3])
def test_it_is_the_hessian_of_the_cross_entropy(num_logits):
    inputs, weights, counts = draw(num_logits)
    labels = torch.arange(VOXELS) % num_logits

    def loss(flat):
        return (counts * functional.cross_entropy(inputs @ flat.view(num_logits, -1).T, labels, reduction="none")).sum()

    expected = torch.autograd.functional.hessian(loss, weights.flatten())
    torch.testing.assert_close(summed(FullCurvature, num_logits).matrix, expected, rtol=1e-10, atol=1e-10)


def test_of_regions_it_is_the_hessian_of_the_binary_cross_entropies():
    inputs, weights, counts = draw(3)
    targets = (torch.arange(3 * VOXELS).view(VOXELS, 3) % 2).double()

    def loss(flat):
        logits = inputs @ flat.view(3, -1).T
        return (counts[:, None] * functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")).sum()

    expected = torch.autograd.functional.hessian(loss, weights.flatten())
    found = summed(FullCurvature, 3, hessian=sigmoid_hessian).matrix
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_factors_are_exact_for_two_classes_for_one_voxel_and_for_a_constant_hessian():
    for number, voxels in ((2, VOXELS), (3, 1)):
        full, factors = (summed(kind, number, voxels=voxels) for kind in (FullCurvature, KroneckerCurvature))
        torch.testing.assert_close(dense(factors), full.matrix, rtol=1e-10, atol=1e-12)
    constant = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).expand(VOXELS, 3).log()
    full, factors = (
        summed(kind, 3, hessian=lambda logits: softmax_hessian(constant))
        for kind in (FullCurvature, KroneckerCurvature)
    )
    torch.testing.assert_close(dense(factors), full.matrix, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("hessian", [softmax_hessian, sigmoid_hessian])
def test_factors_have_the_trace_in_general(hessian):
    full, factors = (summed(kind, 3, hessian=hessian) for kind in (FullCurvature, KroneckerCurvature))
    assert (dense(factors) - full.matrix).abs().max() > 0.1
    assert dense(factors).trace() == pytest.approx(float(full.matrix.trace()), rel=1e-12)
    assert factors.trace == pytest.approx(full.trace, rel=1e-12)


@pytest.mark.parametrize("kind", [FullCurvature, KroneckerCurvature])
@pytest.mark.parametrize("hessian", [softmax_hessian, sigmoid_hessian])
def test_pieces_are_one_batch(kind, hessian, monkeypatch):
    whole = summed(kind, 3, hessian=hessian)
    inputs, weights, counts = draw(3)
    values = hessian(inputs @ weights.T)
    monkeypatch.setattr(last_layer_curvature, "_VOXELS_AT_ONCE", 7)
    pieces = kind(3, INPUTS)
    for start in (0, 11, 12):
        part = slice(start, {0: 11, 11: 12, 12: VOXELS}[start])
        pieces.add(inputs[part], values[part], counts[part])
    torch.testing.assert_close(dense(pieces), dense(whole), rtol=1e-12, atol=1e-12)


def test_rounding_does_not_grow_with_the_number_of_voxels():
    """A million equal voxels in float32, for which a sum in float32 would be off by 1e-2."""
    curvature = FullCurvature(2, 1)
    inputs, hessian = torch.full((1 << 20, 1), 0.1), torch.tensor([[0.1, -0.1], [-0.1, 0.1]]).expand(1 << 20, 2, 2)
    curvature.add(inputs, hessian, torch.ones(1 << 20))
    assert float(curvature.matrix[0, 0]) == pytest.approx((1 << 20) * 0.001, rel=1e-4)


def test_large_layers_have_factors():
    assert isinstance(curvature_for(20, 100), FullCurvature)
    assert isinstance(curvature_for(20, 101), KroneckerCurvature)


@pytest.mark.parametrize("kind", [FullCurvature, KroneckerCurvature])
def test_state_is_all_of_it(kind):
    curvature = summed(kind, 3)
    again = LastLayerCurvature.of_state(curvature.state(), 3, INPUTS)
    assert type(again) is kind
    for name, total in curvature.tensors.items():
        assert torch.equal(again.tensors[name], total)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"structure": "diagonal"}, "structure must be one of full, kronecker"),
        ({"matrix": torch.zeros(3, 3, dtype=torch.float64)}, r"matrix must be a tensor of shape \(12, 12\)"),
        ({"matrix": torch.zeros(12, 12)}, "in torch.float64"),
        ({"matrix": torch.full((12, 12), float("nan"), dtype=torch.float64)}, "matrix has values that are not finite"),
    ],
)
def test_a_damaged_state_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        LastLayerCurvature.of_state(summed(FullCurvature, 3).state() | change, 3, INPUTS)


@pytest.mark.parametrize("kind", [FullCurvature, KroneckerCurvature])
def test_spectrum_against_dense_matrices(kind):
    curvature, temperature, precision = summed(kind, 3), 0.3, 0.2
    precision_matrix = temperature * dense(curvature) + precision * torch.eye(12, dtype=torch.float64)
    spectrum = curvature.spectrum()
    assert spectrum.log_determinant(temperature, precision) == pytest.approx(float(precision_matrix.logdet()))

    root = spectrum.times_inverse_root(torch.eye(12, dtype=torch.float64).view(12, 3, 4), temperature, precision)
    root = root.flatten(1)
    torch.testing.assert_close(root, root.T, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(root @ root, precision_matrix.inverse(), rtol=1e-8, atol=1e-8)

    contrasts = torch.tensor([[-1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.5, 0.5, -2.0]], dtype=torch.float64)
    covariance = spectrum.covariance_of(contrasts, temperature, precision)
    blocks = precision_matrix.inverse().view(3, 4, 3, 4)
    expected = torch.einsum("dc,cfeg,de->dfg", contrasts, blocks, contrasts)
    torch.testing.assert_close(covariance, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("num_logits", "hessian"), [(2, softmax_hessian), (3, softmax_hessian), (3, sigmoid_hessian)])
def test_heads_from_different_starts_end_in_one_head(num_logits, hessian):
    """On fixed features G + λ I is positive definite at all weights: an ensemble of heads has no spread at its end.

    Newton's method with the curvature as its Hessian, its step halved until the loss with weight decay λ falls.
    """
    decay = 1e-2
    inputs, weights, _ = draw(num_logits, voxels=200)
    generator = torch.Generator().manual_seed(1)
    regions = hessian is sigmoid_hessian
    expected = (inputs @ weights.T).sigmoid() if regions else (inputs @ weights.T).softmax(1)
    if regions:
        targets = torch.bernoulli(expected, generator=generator)
    else:
        targets = functional.one_hot(torch.multinomial(expected, 1, generator=generator)[:, 0], num_logits).double()

    def predict(weights):
        return (inputs @ weights.T).sigmoid() if regions else (inputs @ weights.T).softmax(1)

    def loss(weights):
        logits = inputs @ weights.T
        if regions:
            fit = functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
        else:
            fit = functional.cross_entropy(logits, targets, reduction="sum")
        return fit + decay / 2 * weights.square().sum()

    def train(weights):
        for _ in range(40):
            curvature = FullCurvature(num_logits, INPUTS)
            curvature.add(inputs, hessian(inputs @ weights.T), torch.ones(len(inputs)))
            gradient = (predict(weights) - targets).T @ inputs + decay * weights
            identity = torch.eye(weights.numel(), dtype=torch.float64)
            step = torch.linalg.solve(curvature.matrix + decay * identity, gradient.flatten()).view_as(weights)
            length = 1.0
            while length > 1e-6 and loss(weights - length * step) > loss(weights):
                length /= 2
            weights = weights - length * step
        return weights, curvature

    starts = 3 * torch.randn(5, *weights.shape, generator=generator, dtype=torch.float64)
    heads, curvatures = zip(*map(train, starts), strict=True)

    def spread(weights):
        return (torch.stack(list(map(predict, weights))).std(0)).max().item()

    assert spread(starts) > 0.3
    assert spread(heads) < 1e-9
    # What the data leave open is the spread around that one head, which Laplace draws from.
    numbers = torch.randn((200, *weights.shape), generator=generator, dtype=torch.float64)
    assert spread(heads[0] + curvatures[0].spectrum().times_inverse_root(numbers, 1.0, decay)) > 0.03
