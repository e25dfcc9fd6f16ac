"""Closed forms of voxels that are all but certain, against quadrature in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunet_stochastic.certain_voxels import certain_class, moments_of_certain
from nnunet_stochastic.inference import blending
from nnunet_stochastic.inference.blending import LawBlend
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.inference.stitching import Stitching
from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.voxel_law import law_with_noise


def laws(classes: int, count: int = 4000) -> torch.Tensor:
    """Fields (D + F, n) of all degrees of certainty, of every class."""
    free, generator = classes - 1, torch.Generator().manual_seed(classes)
    logits = torch.randn(classes, count, generator=generator)
    logits[torch.arange(count) % classes, torch.arange(count)] += 14 * torch.rand(count, generator=generator)
    factor = torch.randn(free * (free + 1) // 2, count, generator=generator) * torch.rand(count, generator=generator)
    return torch.cat([logits[1:] - logits[:1], factor])


def by_quadrature(space, fields, nodes):
    """E[p], E[Σ p²] and E[H] in float64."""
    points, weights = (torch.from_numpy(values) for values in np.polynomial.hermite_e.hermegauss(nodes))
    grid = torch.cartesian_prod(*[points] * space.num_log_ratios).T[:, None]  # (D, 1, nodes^D)
    weight = torch.cartesian_prod(*[weights / weights.sum()] * space.num_log_ratios).prod(1)
    size = (-1, fields.shape[1], len(weight))
    p = space.probabilities(law_with_noise(space, fields.double()[..., None].expand(size), grid.expand(size)))
    return p @ weight, p.square().sum(0) @ weight, space.entropy(p) @ weight


@pytest.mark.parametrize(("classes", "nodes"), [(3, 30), (4, 14), (5, 8)])
def test_closed_form_is_within_its_bounds(classes, nodes):
    space, fields = OutcomeSpace(classes), laws(classes, 300)
    certain = certain_class(space, fields)
    for k in range(classes):
        chosen = fields[:, certain == k]
        assert chosen.shape[1] > 5
        found = moments_of_certain(space, chosen, k)
        mean, square, entropy = by_quadrature(space, chosen, nodes)
        assert (found.mean - mean).abs().max() < 3e-6
        assert (found.square - square).abs().max() < 1.2e-5
        assert (found.entropy - entropy).abs().max() < 5.2e-5
        assert (space.entropy(found.mean) - space.entropy(mean)).abs().max() < 4.4e-5
        assert entropy.max() > 1e-3  # not of voxels where every rule would do
        assert (found.mean.sum(0) - 1).abs().max() < 1e-6


@pytest.mark.parametrize("classes", [3, 4, 5])
def test_voxels_are_certain_by_the_bounds_of_the_module(classes):
    """Written out anew from the covariance of the differences to each class."""
    space, fields = OutcomeSpace(classes), laws(classes, 300)
    free, expected = classes - 1, []
    for voxel in fields.double().T:
        factor = torch.zeros(classes, free, dtype=torch.float64)
        factor[1:][tuple(torch.tril_indices(free, free))] = voxel[free:]
        mean, found = torch.cat([torch.zeros(1).double(), voxel[:free]]), -1
        for k in range(classes):
            others = [j for j in range(classes) if j != k]
            m, v = (mean - mean[k])[others], (factor - factor[k]).square().sum(1)[others]
            s, h = (m + v).exp().sum(), ((m + v).exp() * ((m + 2 * v) ** 2 + v).sqrt()).sum()
            if s <= 1.7e-3 and s * h <= 5e-5:
                found = k
        expected.append(found)
    assert certain_class(space, fields).tolist() == expected
    assert set(expected) == {-1, *range(classes)}


def moments(space, fields, estimator="mc", count=200):
    weights = torch.ones(1, 1, fields.shape[1])
    blend = LawBlend(
        space,
        Stitching(weights, weights),
        num_views=1,
        has_samples=True,
        estimator=estimator,
        num_samples=count,
        noise=NoiseKey(0),
    )
    return blend._moments(fields, slice(0, fields.shape[1]))


@pytest.mark.parametrize("classes", [3, 5])
def test_maps_are_those_without_skipping(monkeypatch, classes):
    """Voxels that take samples to rounding; the others within 1e-4 and what the samples are off."""
    space, fields = OutcomeSpace(classes), laws(classes)
    skipped, certain = moments(space, fields), certain_class(space, fields) >= 0
    independent = moments(space, fields, "plug_in")
    monkeypatch.setattr(blending, "certain_class", lambda space, fields: torch.full_like(fields[0], -1))
    sampled = moments(space, fields)
    assert 0.1 < certain.float().mean() < 0.9
    for name in ("mean", "entropy", "square"):
        found, expected = getattr(skipped, name), getattr(sampled, name)
        torch.testing.assert_close(found[..., ~certain], expected[..., ~certain], atol=1e-6, rtol=1e-5)
        assert (found - expected)[..., certain].abs().quantile(0.99) < 2e-4
        assert torch.equal(getattr(independent, name), getattr(moments(space, fields, "plug_in"), name))
    assert (skipped.entropy <= space.entropy(skipped.mean) + 1e-4).all()
