import weakref

import numpy as np
import pytest
import torch

from nnunet_stochastic.inference import PredictionOptions, StochasticPredictor
from nnunet_stochastic.inference.samples import SampleDraw, draws_of_members, groups_of_draws
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.inference.sliding_window import View, mirrored_views
from nnunet_stochastic.inference.stitching import Stitching
from nnunet_stochastic.inference.voxel_noise import voxel_noise
from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.voxel_law import law_with_noise

KINDS = ["diagonal", "low rank", "voxel", "volume"]
TWO, THREE, REGIONS = OutcomeSpace(2), OutcomeSpace(3), OutcomeSpace(3, regions=True)
PLAIN = (View(()),)


def image(shape=(8, 8, 13)) -> torch.Tensor:
    return torch.rand((1, *shape), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def draw(sweeping):
    """Draws samples of one member of a ``LocalNetwork``: log-ratios (N, D, *S)."""

    def sweep(kind, data, count, *, views=PLAIN, space=TWO, **options) -> torch.Tensor:
        network = sweeping.LocalNetwork(kind, space.num_logits)
        draws = [SampleDraw(index, tuple(views)) for index in range(count)]
        return sweeping.sweep(network, data, space, draws=draws, **options).samples

    return sweep


def noise_of(tile, channels, *, seed, sample, case=""):
    return voxel_noise(tile, channels, noise=NoiseKey(seed, case), sample=sample)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_do_not_depend_on_the_tiles(draw, kind):
    data = image((12, 9, 14))
    coarse, fine = draw(kind, data, 3, step_size=1.0), draw(kind, data, 3, step_size=0.25)
    torch.testing.assert_close(coarse, fine, atol=1e-4, rtol=0)
    torch.testing.assert_close(coarse, draw(kind, data, 3, step_size=1.0, reverse=True), atol=1e-5, rtol=0)
    probabilities = torch.sigmoid(coarse)
    assert (probabilities[0] - probabilities[1]).abs().mean() > 0.05
    for other in ({"seed": 1}, {"case": "other"}):
        changed = torch.sigmoid(draw(kind, data, 1, step_size=1.0, **other))
        assert (changed[0] - probabilities[0]).abs().mean() > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_mirrored_views_give_the_voxel_its_own_noise(draw, kind):
    data = image()
    plain = draw(kind, data, 2)
    one_view = draw(kind, data, 2, views=(View((0, 2)),))
    torch.testing.assert_close(one_view, plain, atol=1e-4, rtol=0)
    every_view = draw(kind, data, 2, views=tuple(mirrored_views((0, 1, 2))), mirror_axes=(0, 1, 2))
    torch.testing.assert_close(every_view, plain, atol=1e-4, rtol=0)


def moments_by_quadrature(space, fields):
    """E[p] (P, *S) and Var[p] summed over the P channels of a law of two log-ratios, by 24 x 24 nodes."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    weights = weights / weights.sum()
    mean, square = 0, 0
    for first, first_weight in zip(nodes, weights, strict=True):
        for second, second_weight in zip(nodes, weights, strict=True):
            noise = torch.tensor([first, second]).view(2, 1, 1, 1).expand(2, *fields.shape[1:])
            p = space.probabilities(law_with_noise(space, fields.double(), noise))
            mean, square = mean + first_weight * second_weight * p, square + first_weight * second_weight * p.square()
    return mean, (square - mean.square()).sum(0)


@pytest.mark.parametrize(
    ("kind", "space"),
    [
        *((kind, TWO) for kind in KINDS),
        ("diagonal", THREE),
        ("low rank", THREE),
        ("voxel", REGIONS),
        ("volume", REGIONS),
    ],
)
def test_mean_and_variance_over_samples_are_those_of_the_maps(sweeping, kind, space):
    """At every voxel, also where tiles overlap: noise drawn per tile would be averaged there, its variance halved."""
    count = 2_000
    swept = sweeping.sweep(
        sweeping.LocalNetwork(kind, space.num_logits),
        image((4, 8, 13)),
        space,
        patch_size=(4, 8, 8),
        draws=[SampleDraw(index, PLAIN) for index in range(count)],
        estimator="exact" if space.scalar else "mc",
    )
    samples = torch.stack([space.probabilities(sample) for sample in swept.samples]).double()
    if space.scalar:
        mean, variance = swept.moments.mean, swept.moments.second_moment - swept.moments.mean.square().sum(0)
    else:
        mean, variance = moments_by_quadrature(space, swept.collector.fields)
    # Of 416 voxels and 3 channels 5 standard errors are exceeded once in 1,400 times; 1e-4 is the maps' own error.
    assert ((samples.mean(0) - mean).abs() < 5 * (samples.var(0) / count).sqrt() + 1e-4).all()
    error = ((samples - samples.mean(0)).square().sum(1).var(0) / count).sqrt()
    assert ((samples.var(0).sum(0) - variance).abs() < 5 * error + 1e-4).all()
    assert (variance > 5 * error).all()


@pytest.mark.parametrize("kind", ["low rank", "volume"])
def test_correlation_reaches_across_tiles(sweeping, draw, kind):
    """Voxels in different tiles have the correlation of Cov(η_n, η_m) in closed form; those of z1 have none."""
    data, count = image((8, 8, 24)), 500
    near, far = (0, 3, 1), (5, 2, 22)
    distribution = sweeping.LocalNetwork(kind).logit_distribution(data[None])
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
    logits = draw(kind, data, count)[:, 0].double()
    found = np.corrcoef(logits[(slice(None), *near)], logits[(slice(None), *far)])[0, 1]
    assert abs(np.arctanh(found) - np.arctanh(expected)) < 4 / count**0.5


@pytest.mark.parametrize("kind", ["diagonal", "voxel"])
def test_independent_voxels_stay_independent_across_tiles(draw, kind):
    logits = draw(kind, image((8, 8, 24)), 500)[:, 0].double()
    assert abs(np.corrcoef(logits[:, 0, 3, 1], logits[:, 5, 2, 22])[0, 1]) < 4 / 500**0.5
    assert abs(np.corrcoef(logits[:, 0, 3, 1], logits[:, 0, 3, 2])[0, 1]) < 4 / 500**0.5


def test_a_few_samples_at_a_time_are_the_same(draw, monkeypatch):
    data, options = image(), {"views": tuple(mirrored_views((0, 1))), "mirror_axes": (0, 1)}
    monkeypatch.setattr("nnunet_stochastic.inference.linear_samples.BYTES_OF_SAMPLES", 0)
    together = draw("low rank", data, 5, **options)
    monkeypatch.setattr("nnunet_stochastic.inference.samples.BYTES_OF_SAMPLES", 2 * 4 * data.numel())
    apart = draw("low rank", data, 5, **options)
    assert torch.equal(together, apart)


def test_memory_is_that_of_one_pass(tmp_path, folders, stochastic_trainer, monkeypatch):
    """However many samples there are; those that were handed over are not kept for the next pass."""
    model = folders.write_model_folder(tmp_path / "model", trainer=stochastic_trainer)
    data, zeros, sums = torch.randn(1, 16, 16, 40), Stitching.zeros, []
    monkeypatch.setattr("nnunet_stochastic.inference.samples.BYTES_OF_SAMPLES", 2 * 4 * data.numel())
    peaks = []

    def counting(self, *channels, **options):
        total = zeros(self, *channels, **options)
        sums.append(weakref.ref(total))
        peaks[-1] = max(peaks[-1], sum(tensor.numel() for ref in sums if (tensor := ref()) is not None))
        return total

    monkeypatch.setattr(Stitching, "zeros", counting)
    for count in (2, 3, 7):
        options = PredictionOptions(num_samples=2, mirroring=False, num_saved_samples=count)
        predictor = StochasticPredictor.from_model_folder(model, folds=(0,), options=options)
        indices = []
        peaks.append(0)
        predictor.predict_grid(data, on_sample=lambda index, _: indices.append(index))  # noqa: B023
        assert indices == list(range(count))
    assert peaks[0] > 2 * data.numel()
    assert peaks == [peaks[0]] * 3


def test_samples_of_deterministic_members_stay_what_they_are(tmp_path, folders):
    """While a thread still exports one, the next member is predicted."""
    model = folders.write_model_folder(tmp_path / "model", folds=(0, 1, 2))
    data, kept = torch.randn(1, 16, 16, 20), {}
    options = PredictionOptions(mirroring=False, num_saved_samples=3, epistemic="ensemble")
    predictor = StochasticPredictor.from_model_folder(model, folds=(0, 1, 2), options=options)
    predictor.predict_grid(data, on_sample=kept.__setitem__)
    assert sorted(kept) == [0, 1, 2]
    alone = PredictionOptions(mirroring=False)
    for fold, sample in kept.items():
        member = StochasticPredictor.from_model_folder(model, folds=(fold,), options=alone)
        torch.testing.assert_close(sample, member.predict_grid(data).log_ratios)


def test_members_of_one_pass_share_its_memory():
    draws = [SampleDraw(index, PLAIN) for index in range(24)]
    shape = (256, 512, 512)  # 256 MiB
    assert [len(group) for group in groups_of_draws(draws, TWO, shape)] == [8, 8, 8]
    assert [len(group) for group in groups_of_draws(draws[:6], TWO, shape, members=4)] == [2, 2, 2]
    assert [len(group) for group in groups_of_draws(draws[:2], TWO, shape, members=12)] == [1, 1]


def test_further_passes_run_few_views():
    """The pass of the maps runs all views; the samples that are left are ordered by theirs."""
    views = [View(()), View((0,)), View((1,)), View((0, 1))]
    (draws,) = draws_of_members(18, 1, views, has_samples=True, blend_views=False)
    first, *others = groups_of_draws(draws, TWO, (512, 512, 512))  # 512 MiB
    assert [draw.index for draw in first] == [0, 1, 2, 3]
    assert [[draw.index for draw in group] for group in others] == [
        [4, 8, 12, 16],
        [5, 9, 13, 17],
        [6, 10, 14, 7],
        [11, 15],
    ]
    assert [len({draw.views for draw in group}) for group in others] == [1, 1, 2, 1]


def test_samples_of_slices_have_noise_of_their_own(sweeping):
    """A network of slices: each slice is another place of the image."""

    class Slices(torch.nn.Module):
        def logit_distribution(self, x):
            return sweeping.DiagonalGaussian(torch.zeros(1, 2, *x.shape[2:]), torch.full((1, 2, *x.shape[2:]), 0.5))

    swept = sweeping.sweep(Slices(), image((3, 8, 70)), TWO, patch_size=(8, 64), draws=[SampleDraw(0, PLAIN)])
    sample = swept.samples[0, 0]
    for index in range(3):
        expected = noise_of((index, slice(0, 8), slice(0, 70)), 1, seed=0, sample=0)[0]
        torch.testing.assert_close(sample[index], expected, atol=1e-5, rtol=0)


def test_samples_are_dealt_to_members_and_views():
    views = [View(()), View((0,))]
    dealt = draws_of_members(7, 3, views, has_samples=True, blend_views=False)
    assert [[draw.index for draw in draws] for draws in dealt] == [[0, 3, 6], [1, 4], [2, 5]]
    assert [draw.views for draw in dealt[0]] == [(views[0],), (views[1],), (views[0],)]
    blended = draws_of_members(7, 3, views, has_samples=True, blend_views=True)
    assert [[draw.index for draw in draws] for draws in blended] == [[0, 3, 6], [1, 4], [2, 5]]
    assert {draw.views for draws in blended for draw in draws} == {tuple(views)}
    assert draws_of_members(0, 2, views[:1], has_samples=True, blend_views=False) == [[], []]
    assert sum(map(len, draws_of_members(6, 3, views, has_samples=False, blend_views=False))) == 6
    with pytest.raises(ValueError, match="one per member and view, here 3 x 2"):
        draws_of_members(7, 3, views, has_samples=False, blend_views=False)
    assert sum(map(len, draws_of_members(3, 3, views, has_samples=False, blend_views=True))) == 3
    with pytest.raises(ValueError, match="one per member, here 3:"):
        draws_of_members(4, 3, views, has_samples=False, blend_views=True)
