import numpy as np
import pytest
import torch
from torch import nn

from nnunet_stochastic.distributions import BasisGaussian, DiagonalGaussian, LowRankGaussian
from nnunet_stochastic.inference.samples import SampleDraw, draws_of_members, stitch_samples, voxel_noise
from nnunet_stochastic.inference.sliding_window import View, mirrored_views, stitch_tile, tile_weights, tiles
from nnunet_stochastic.moments import MomentSums, OutcomeSpace

PATCH = (8, 8, 8)
CPU = torch.device("cpu")


class LocalNetwork(nn.Module):
    """Parameters that depend on a voxel's own intensity alone, so that all tiles and views agree on them."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def logit_distribution(self, x):
        x = x.double()
        parameters = {
            "mean_logits": torch.cat([x.sin(), 1.5 * x], 1),
            "diag_var": torch.cat([0.2 + x.square(), 0.5 + 0.3 * x.cos()], 1),
        }
        if self.kind == "low rank":
            parameters["cov_factor"] = torch.stack([torch.cat([x + r, 1 - r * x], 1) for r in range(3)], 2)
        elif self.kind != "diagonal":
            parameters["basis_scale"] = torch.cat([1 + 0.5 * x, 0.7 - x, x.cos()], 1)
        if self.kind == "diagonal":
            return DiagonalGaussian(**parameters)
        if self.kind == "low rank":
            return LowRankGaussian(**parameters)
        bases = torch.tensor([[0.6, -0.3, 0.8], [0.2, 0.9, -0.4]], dtype=torch.float64).view(1, 1, 1, 1, 2, 3)
        return BasisGaussian(**parameters, partition_bases=bases, noise_scope=self.kind)


KINDS = ["diagonal", "low rank", "voxel", "volume"]
PLAIN = (View((), 1),)


def image(shape=(8, 8, 13)) -> torch.Tensor:
    return torch.rand((1, *shape), generator=torch.Generator().manual_seed(1))


def draw(kind, data, count, *, step_size=0.5, seed=0, views=PLAIN) -> torch.Tensor:
    """Probabilities of samples of one member, (N, *S)."""
    draws = [SampleDraw(index, views[index % len(views)]) for index in range(count)]
    samples = stitch_samples(
        LocalNetwork(kind),
        data,
        tiles(data.shape[1:], PATCH, step_size),
        draws,
        OutcomeSpace(2),
        weights=tile_weights(PATCH),
        seed=seed,
        device=CPU,
    )
    return torch.stack([probabilities[0] for _, probabilities in samples])


def test_noise_is_a_function_of_the_voxel():
    first = voxel_noise((slice(0, 40), slice(5, 30), slice(17, 33)), 2, seed=3, sample=4)
    second = voxel_noise((slice(9, 20), slice(0, 16), slice(10, 50)), 2, seed=3, sample=4)
    torch.testing.assert_close(first[:, 9:20, :11], second[:, :, 5:, 7:23], rtol=0, atol=0)
    assert abs(first.mean()) < 4 / first.numel() ** 0.5
    assert abs(first.var() - 1) < 4 * (2 / first.numel()) ** 0.5
    flat = first.flatten()
    others = [
        voxel_noise((slice(0, 40), slice(5, 30), slice(17, 33)), 2, seed=seed, sample=sample)
        for seed, sample in [(3, 5), (4, 4)]
    ]
    others += [voxel_noise((slice(16, 56), slice(5, 30), slice(17, 33)), 2, seed=3, sample=4)]
    for other in others:
        assert abs(np.corrcoef(flat, other.flatten())[0, 1]) < 5 / first.numel() ** 0.5


def test_noise_of_slices():
    first = voxel_noise((2, slice(0, 70), slice(60, 130)), 3, seed=0, sample=0)
    second = voxel_noise((2, slice(35, 99), slice(64, 100)), 3, seed=0, sample=0)
    torch.testing.assert_close(first[:, 35:, 4:40], second[:, :35], rtol=0, atol=0)
    other = voxel_noise((3, slice(0, 70), slice(60, 130)), 3, seed=0, sample=0)
    assert abs(np.corrcoef(first.flatten(), other.flatten())[0, 1]) < 5 / first.numel() ** 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_samples_do_not_depend_on_the_tiles(kind):
    data = image((12, 9, 14))
    coarse, fine = draw(kind, data, 3, step_size=1.0), draw(kind, data, 3, step_size=0.25)
    torch.testing.assert_close(coarse, fine, atol=1e-5, rtol=0)
    assert (coarse[0] - coarse[1]).abs().mean() > 0.05
    assert (draw(kind, data, 1, seed=1)[0] - coarse[0]).abs().mean() > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_mirrored_views_give_the_voxel_its_own_noise(kind):
    data = image()
    plain = draw(kind, data, 2)
    mirrored = draw(kind, data, 2, views=(View((0, 2), 1), View((1,), 1)))
    torch.testing.assert_close(mirrored, plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_mean_and_variance_over_samples_are_those_of_the_maps(kind):
    """Also where tiles overlap: noise drawn per tile would be averaged there, and the variance up to halved."""
    data, count = image(), 600
    samples = draw(kind, data, count)
    sums = MomentSums(OutcomeSpace(2), tuple(data.shape[1:]))
    for tile in tiles(data.shape[1:], PATCH, 0.5):
        stitch_tile(
            LocalNetwork(kind),
            data,
            tile,
            sums,
            weights=tile_weights(PATCH),
            views=[View((), 1)],
            seed=0,
            member="fold_0",
            device=CPU,
            exact=True,
        )
    sums.finish_member()
    moments = sums.moments()
    variance = moments.second_moment - moments.mean[0].square()
    error = (samples.var(0) / count).sqrt()
    assert ((samples.mean(0) - moments.mean[0]).abs() < 5 * error).all()
    fourth = (samples - samples.mean(0)).pow(4).mean(0)
    error = ((fourth - samples.var(0).square()) / count).sqrt()
    assert ((samples.var(0) - variance).abs() < 5 * error).all()


@pytest.mark.parametrize("kind", ["low rank", "volume"])
def test_correlation_reaches_across_tiles(kind):
    """Voxels in different tiles have the correlation of Cov(η_n, η_m) in closed form; those of z1 have none."""
    data, count = image((8, 8, 24)), 500
    near, far = (0, 3, 1), (5, 2, 22)
    distribution = LocalNetwork(kind).logit_distribution(data[None])
    if kind == "low rank":
        factor = distribution.cov_factor[0]
    else:
        factor = distribution.partition_bases[0, 0, 0, 0][:, :, None, None, None] * distribution.basis_scale[0]
    difference = factor[1] - factor[0]  # of the foreground's logit from the background's, (R, *S)
    own = distribution.diag_var[0].sum(0)
    shared = [difference[(slice(None), *voxel)] for voxel in (near, far)]
    covariance = float(shared[0] @ shared[1])
    variances = [float(factors @ factors + own[voxel]) for factors, voxel in zip(shared, (near, far), strict=True)]
    expected = covariance / (variances[0] * variances[1]) ** 0.5
    assert abs(expected) > 0.3
    logits = torch.logit(draw(kind, data, count).double())
    found = np.corrcoef(logits[(slice(None), *near)], logits[(slice(None), *far)])[0, 1]
    assert abs(np.arctanh(found) - np.arctanh(expected)) < 4 / count**0.5


def test_independent_voxels_stay_independent_across_tiles():
    logits = torch.logit(draw("voxel", image((8, 8, 24)), 500).double())
    assert abs(np.corrcoef(logits[:, 0, 3, 1], logits[:, 5, 2, 22])[0, 1]) < 4 / 500**0.5


def test_a_few_samples_at_a_time_are_the_same(monkeypatch):
    data = image()
    together = draw("low rank", data, 5, views=tuple(mirrored_views((0, 1), 1, once=True)))
    monkeypatch.setattr("nnunet_stochastic.inference.samples._BYTES_AT_ONCE", 2 * 4 * 2 * data.numel())
    apart = draw("low rank", data, 5, views=tuple(mirrored_views((0, 1), 1, once=True)))
    assert torch.equal(together, apart)


def test_samples_are_dealt_to_members_and_views():
    first, second = View((), 3), View((0,), 2)
    dealt = draws_of_members(7, 3, [first, second], random=True)
    assert [[draw.index for draw in draws] for draws in dealt] == [[0, 3, 6], [1, 4], [2, 5]]
    assert [draw.view for draw in dealt[0]] == [first, second, first]
    assert draws_of_members(0, 2, [first], random=True) == [[], []]
    assert sum(map(len, draws_of_members(6, 3, [first, second], random=False))) == 6
    with pytest.raises(ValueError, match="one per member and view, here 3 x 2"):
        draws_of_members(7, 3, [first, second], random=False)
