import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch.utils._python_dispatch import TorchDispatchMode

from nnunet_stochastic.distributions import LowRankGaussian, PointMass
from nnunet_stochastic.inference.samples import SampleDraw
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.inference.sliding_window import (
    View,
    augmented_views,
    mirrored_views,
    predict_logit_distribution,
    spread_samples,
    sum_of_weights,
    tile_weights,
    tiles,
)
from nnunet_stochastic.inference.voxel_noise import voxel_noise
from nnunet_stochastic.maps import epistemic_map
from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.seeds import stream_seed

TWO, THREE, REGIONS = OutcomeSpace(2), OutcomeSpace(3), OutcomeSpace(3, regions=True)
SIX = OutcomeSpace(6)


@pytest.mark.parametrize(("dimension", "shape"), [(3, (16, 30, 41)), (2, (3, 16, 29))])
def test_tiles_are_nnunets(folders, dimension, shape):
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    name = folders.configuration_name(dimension)
    predictor.configuration_manager = PlansManager(folders.plans(dimension=dimension)).get_configuration(name)
    expected = [slicer[1:] for slicer in predictor._internal_get_sliding_window_slicers(shape)]
    assert tiles(shape, [16] * dimension, 0.5) == expected


def test_patch_of_too_few_axes():
    with pytest.raises(ValueError, match="does not fit"):
        tiles((16, 16, 16), [16], 0.5)


def test_weights_are_those_that_nnunet_keeps_in_half_precision():
    expected = compute_gaussian((16, 12, 8), sigma_scale=1 / 8, value_scaling_factor=10, device=torch.device("cpu"))
    assert expected.dtype == torch.half
    weights = tile_weights((16, 12, 8))
    assert weights.dtype == torch.float32
    assert torch.equal(weights, expected.float())
    assert weights.max() == 10


def test_sum_of_weights():
    weights = tile_weights((8, 8))
    total = sum_of_weights(tiles((3, 12, 8), (8, 8), 0.5), weights, (3, 12, 8))
    expected = torch.zeros(12, 8)
    expected[:8] += weights
    expected[4:] += weights
    torch.testing.assert_close(total, expected.expand(3, 12, 8))
    with pytest.raises(ValueError, match="do not cover"):
        sum_of_weights(tiles((3, 12, 8), (8, 8), 0.5)[:-1], weights, (3, 12, 8))


def test_samples_are_spread_evenly_over_the_views():
    assert spread_samples(30, 8) == [4, 4, 4, 4, 4, 4, 3, 3]
    assert spread_samples(2, 4) == [1, 1, 0, 0]
    assert spread_samples(30, 1) == [30]


def test_mirrored_views():
    assert mirrored_views(()) == [View(())]
    assert [view.flipped_axes for view in mirrored_views((1, 0))] == [(), (0,), (1,), (0, 1)]
    views = mirrored_views((0, 1, 2))
    assert len(set(views)) == 8
    assert views[0] == View(())


def test_a_view_is_undone():
    patch = torch.rand(1, 3, 4, 5, 6)
    for view in mirrored_views((0, 1, 2)):
        assert torch.equal(view.undo(view.of(patch)[0]), patch[0])
    assert torch.equal(View((0, 2)).of(patch), patch.flip((2, 4)))


def test_augmented_views_shift_image_channels_alone():
    noise = NoiseKey(0)
    chosen = augmented_views((0, 1), 200, num_channels=2, noise=noise)
    assert [view.flipped_axes for view in chosen[:5]] == [(), (0,), (1,), (0, 1), ()]
    assert chosen == augmented_views((0, 1), 200, num_channels=2, noise=noise)
    for other in (NoiseKey(1), NoiseKey(0, "other")):
        assert chosen[0] != augmented_views((0, 1), 200, num_channels=2, noise=other)[0]
    shifts = np.array([view.shift for view in chosen])
    assert shifts.shape == (200, 2)
    np.testing.assert_allclose(shifts.std(0), 0.1, rtol=0.2)
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.3
    patch = torch.rand(1, 3, 4, 5)  # the last channel is of a previous stage
    flipped = View((1,), (0.5, -1.0)).of(patch).flip(3)
    torch.testing.assert_close(flipped - patch, torch.tensor([0.5, -1.0, 0.0]).view(1, 3, 1, 1).expand_as(patch))


def test_seeds_depend_on_the_key_alone():
    assert stream_seed(0, "fold_0", (), (0, 8, 16)) == 6284386401336263326
    keys = [(seed, "fold_0", axes, (0, start)) for seed in range(3) for axes in [(), (0,)] for start in range(50)]
    assert len({stream_seed(*key) for key in keys}) == len(keys)


def test_noise_keys_are_of_seed_case_and_purpose():
    def number(key, *purpose):
        return torch.rand(1, generator=key.generator(*purpose)).item()

    keys = [(NoiseKey(seed, case), purpose) for seed in (0, 1) for case in ("", "a", "b") for purpose in ("x", "y")]
    assert len({number(key, purpose) for key, purpose in keys}) == len(keys)
    assert number(NoiseKey(1, "a"), "x") == number(NoiseKey(1, "a"), "x")


class MirroringNetwork(torch.nn.Module):
    """A network to which a mirrored image and a shifted tile look different, and whose law has all kinds of noise."""

    def __init__(self, channels: int, *, has_samples: bool = True, shared: float = 1.0) -> None:
        super().__init__()
        self.channels, self.has_samples, self.shared = channels, has_samples, shared

    def logit_distribution(self, x):
        ramps = [
            torch.linspace(-1, 1, size).view(-1, *[1] * (x.ndim - 3 - axis)) for axis, size in enumerate(x.shape[2:])
        ]
        mean = torch.stack(
            [(channel + 1) * x[0, 0] * sum(ramps) + channel * x[0, 0] for channel in range(self.channels)]
        )
        if not self.has_samples:
            return PointMass(mean[None])
        factor = torch.stack([0.3 * mean.cos() + ramp for ramp in ramps], 1)
        return LowRankGaussian(mean[None], 0.2 + mean[None].square(), self.shared * factor[None])


def blended_reference(network, image, space, axes_of_views, patch_size=(8, 8, 8)):
    """μ (C', *S) and factor of each tile and view, blended in float64 with nnU-Net's weights; written out anew.

    Returns the mean of the log-ratios and the standard deviation of each, blended (of the differences of two classes,
    of regions), or of more classes the lower triangle of the blended factor.
    """
    weights = compute_gaussian(
        patch_size, sigma_scale=1 / 8, value_scaling_factor=10, dtype=torch.half, device=torch.device("cpu")
    ).double()
    shape = image.shape[1:]
    total, total_weight = 0, torch.zeros(shape, dtype=torch.float64)
    for tile in tiles(shape, patch_size, 0.5):
        fields = 0
        for axes in axes_of_views:
            patch = image[(slice(None), *tile)][None].flip([axis + 2 for axis in axes])
            law = network.logit_distribution(patch)
            mean = law.mean_logits[0].double()
            covariance = law.voxel_covariance()[0].double()
            if not space.regions:
                difference = torch.eye(space.num_logits).double()
                difference = difference[1:] - difference[:1]
                mean = torch.einsum("dc,c...->d...", difference, mean)
                covariance = torch.einsum("di,ij...,ej->de...", difference, covariance, difference)
            else:
                covariance = torch.einsum("dd...->d...", covariance)
            if space.scalar:
                factor = covariance.reshape(mean.shape).sqrt()
            else:
                dense = torch.linalg.cholesky(covariance.movedim((0, 1), (-2, -1)))
                rows, columns = torch.tril_indices(*dense.shape[-2:])
                factor = dense[..., rows, columns].movedim(-1, 0)
            fields = fields + torch.cat([mean, factor]).flip([axis + 1 for axis in axes]) / len(axes_of_views)
        blended = torch.zeros(len(fields), *shape, dtype=torch.float64)
        blended[(slice(None), *tile)] = fields * weights
        total = total + blended
        total_weight[tile] += weights
    return total / total_weight


VIEWS = [(), (0,), (2,), (0, 2)]


@pytest.mark.parametrize("space", [TWO, THREE, REGIONS], ids=["2", "3", "regions"])
def test_laws_are_blended_over_tiles_and_views(sweeping, space):
    image = torch.rand(1, 12, 8, 13)
    network = MirroringNetwork(space.num_logits)
    swept = sweeping.sweep(network, image, space, mirror_axes=(0, 2))
    expected = blended_reference(network, image, space, VIEWS)
    torch.testing.assert_close(swept.collector.fields.double(), expected, atol=1e-5, rtol=1e-5)
    plain = blended_reference(network, image, space, [()])
    assert (plain - expected).abs().mean() > 0.05


def test_whole_samples_are_blended_over_tiles_and_views(sweeping):
    """What p(η) of each tile and view makes of the image's own noise, as log-ratios, in float64."""
    image, space = torch.rand(1, 12, 8, 13), THREE
    network = MirroringNetwork(3)
    views = mirrored_views((0, 2))
    draws = [SampleDraw(index, tuple(views)) for index in range(2)]
    samples = sweeping.sweep(network, image, space, mirror_axes=(0, 2), draws=draws, seed=5, case="a").samples
    whole = tuple(slice(0, size) for size in image.shape[1:])
    weights = tile_weights((8, 8, 8)).double()
    for index, sample in enumerate(samples):
        noise = voxel_noise(whole, 3, noise=NoiseKey(5, "a"), sample=index)
        shared = torch.randn(3, generator=NoiseKey(5, "a").generator("shared noise", index))
        total, total_weight = torch.zeros(2, *image.shape[1:]).double(), torch.zeros(image.shape[1:]).double()
        for tile in tiles(image.shape[1:], (8, 8, 8), 0.5):
            for axes in VIEWS:
                flipped = [axis + 1 for axis in axes]
                law = network.logit_distribution(image[(slice(None), *tile)].flip(flipped)[None])
                own = noise[(slice(None), *tile)].flip(flipped)
                logits = law.mean_logits[0] + law.diag_var[0].sqrt() * own
                logits = (logits + torch.einsum("cr...,r->c...", law.cov_factor[0], shared)).double().flip(flipped)
                total[(slice(None), *tile)] += (logits[1:] - logits[:1]) * weights / 4
            total_weight[tile] += weights
        torch.testing.assert_close(sample.double(), total / total_weight, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("estimator", ["mc", "plug_in"])
def test_probabilities_of_models_without_a_law_are_averaged_over_tiles_and_views(sweeping, estimator):
    """Without noise, so that what is averaged is known: as many passes of a view as it has samples."""
    image = torch.rand(1, 12, 8, 13)
    network = MirroringNetwork(3, has_samples=False)
    moments = sweeping.sweep(
        network, image, THREE, mirror_axes=(0, 2), blends_laws=False, estimator=estimator, num_samples=6
    ).moments
    weights = tile_weights((8, 8, 8)).double()
    total, total_weight = torch.zeros(5, *image.shape[1:]).double(), torch.zeros(image.shape[1:]).double()
    for tile in tiles(image.shape[1:], (8, 8, 8), 0.5):
        for axes, count in zip(VIEWS, (2, 2, 1, 1), strict=True):
            flipped = [axis + 1 for axis in axes]
            mean = network.logit_distribution(image[(slice(None), *tile)].flip(flipped)[None]).mean_logits[0]
            p = mean.double().softmax(0).flip(flipped)
            fields = torch.cat([p, p.square().sum(0)[None], -(p * p.log()).sum(0)[None]])
            total[(slice(None), *tile)] += fields * weights * count / 6
        total_weight[tile] += weights
    expected = total / total_weight
    torch.testing.assert_close(moments.mean.double(), expected[:3], atol=1e-6, rtol=0)
    torch.testing.assert_close(moments.second_moment.double(), expected[3], atol=1e-6, rtol=0)
    torch.testing.assert_close(moments.expected_entropy.double(), expected[4], atol=1e-6, rtol=0)


AVERAGED = {"blends_laws": False, "num_samples": 6}
BLENDED = {"num_samples": 6}


@pytest.mark.parametrize("estimator", ["mc", "plug_in"])
@pytest.mark.parametrize("options", [BLENDED, AVERAGED], ids=["blended", "averaged"])
def test_order_of_tiles_seed_and_case(sweeping, options, estimator):
    """The same sums in any order, other noise for another seed or case."""
    image = torch.rand(1, 20, 12, 8)
    network = MirroringNetwork(3)
    networks = [network, MirroringNetwork(3, shared=0.5)]

    def moments(**more):
        return sweeping.sweep(networks, image, THREE, estimator=estimator, mirror_axes=(0,), **options, **more).moments

    first, reordered = moments(), moments(reverse=True)
    for name in ("mean", "expected_entropy", "second_moment"):
        torch.testing.assert_close(getattr(first, name), getattr(reordered, name), atol=1e-6, rtol=1e-5)
    for other in ({"seed": 1}, {"case": "b"}):
        assert (first.mean - moments(**other).mean).abs().mean() > 1e-3


class Noise(torch.nn.Module):
    """Logits of mean 0, with noise per voxel or one draw for the whole image."""

    def __init__(self, distribution, *, shared: bool, channels: int = 2) -> None:
        super().__init__()
        self.distribution_class, self.shared, self.channels = distribution, shared, channels

    def logit_distribution(self, x):
        distribution = self.distribution_class(torch.zeros(1, self.channels, *x.shape[2:]))
        transform = distribution.transform
        distribution.transform = lambda noise, shared: transform(noise * (not self.shared), shared * self.shared)
        return distribution


def test_noise_of_the_whole_image_is_the_same_in_every_tile(sweeping, folders):
    """Where probabilities are averaged; and an image has one noise whatever its members."""
    network = Noise(folders.UnitGaussian, shared=True)
    options = {"blends_laws": False, "num_samples": 3}
    moments = sweeping.sweep(network, torch.zeros(1, 20, 12, 8), TWO, **options).moments
    value = moments.mean.flatten()[0].item()
    torch.testing.assert_close(moments.mean, torch.full_like(moments.mean, value))
    assert abs(value - 0.5) > 1e-3


@pytest.mark.parametrize("options", [BLENDED, AVERAGED], ids=["blended", "averaged"])
def test_noise_of_voxels_differs_between_voxels_and_views(sweeping, folders, options):
    network = Noise(folders.UnitGaussian, shared=False, channels=3)
    first = sweeping.sweep(network, torch.zeros(1, 16, 8, 8), THREE, mirror_axes=(0,), **options).moments.mean
    left, right = first[:, :4], first[:, 12:]  # each in one tile only
    assert first.std() > 1e-3
    assert np.corrcoef(left.flatten() - left.mean(), right.flatten())[0, 1] < 0.2
    assert np.corrcoef(left.flatten(), right.flip(1).flatten())[0, 1] < 0.2


@pytest.mark.parametrize("space", [TWO, THREE, REGIONS, SIX], ids=["2", "3", "regions", "6"])
@pytest.mark.parametrize("blends_laws", [True, False])
def test_members_share_their_noise(sweeping, folders, space, blends_laws):
    """Two members that agree have no epistemic uncertainty; with noise of their own, as in plug_in, they have."""
    if blends_laws and space is SIX:
        pytest.skip("its law is not kept")
    network = Noise(folders.UnitGaussian, shared=False, channels=space.num_logits)

    def epistemic(estimator):
        options = {"estimator": estimator, "num_samples": 10, "blends_laws": blends_laws}
        moments = sweeping.sweep([network] * 3, torch.zeros(1, 8, 8, 13), space, mirror_axes=(0,), **options).moments
        return float(epistemic_map(moments).mean())

    assert epistemic("mc") < 1e-6
    assert epistemic("plug_in") > 0.004


def test_samples_of_a_view_are_antithetic_pairs(sweeping, folders):
    """Of logits of mean 0 in two classes, z and -z are p and 1 - p: an even number has the mean ½ exactly."""
    network = Noise(folders.UnitGaussian, shared=False)
    image = torch.zeros(1, 8, 8, 8)
    even, odd, independent = (
        sweeping.sweep(network, image, TWO, blends_laws=False, num_samples=count, estimator=estimator).moments
        for count, estimator in ((6, "mc"), (5, "mc"), (6, "plug_in"))
    )
    torch.testing.assert_close(even.mean, torch.full_like(even.mean, 0.5))
    assert (odd.mean - 0.5).abs().mean() > 0.01
    assert (independent.mean - 0.5).abs().mean() > 0.05
    assert even.lost_entropy.max() < 1e-6  # their sums all are 1
    assert odd.lost_entropy.mean() > 0.001
    assert independent.lost_entropy is None


def test_networks_without_distribution_are_point_masses():
    distribution = predict_logit_distribution(torch.nn.Conv2d(1, 2, 1), torch.rand(1, 1, 4, 4))
    assert not distribution.has_samples


@pytest.mark.parametrize("space", [TWO, THREE, REGIONS], ids=["2", "3", "regions"])
@pytest.mark.parametrize("options", [{"estimator": "mc"}, {"estimator": "plug_in"}, {"blends_laws": False}], ids=str)
def test_memory_does_not_grow_with_the_number_of_samples(sweeping, folders, options, space):
    """No tensor of all samples is made, of whatever size a sample is: every operation's results are recorded."""
    image, patch, num_samples = torch.zeros(1, 12, 8, 8), (8, 8, 8), 200
    network = folders.GaussianNetwork(torch.nn.Conv3d(1, space.num_logits, 1)).requires_grad_(False)

    class Recording(TorchDispatchMode):
        greatest = 0

        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            result = function(*arguments, **(keywords or {}))
            if isinstance(result, torch.Tensor):
                self.greatest = max(self.greatest, result.untyped_storage().nbytes() // result.element_size())
            return result

    def greatest(count):
        with Recording() as recording:
            sweeping.sweep(network, image, space, patch_size=patch, num_samples=count, **options)
        return recording.greatest

    # LowRank's samples are made a few at a time, 16 channels of logits.
    assert greatest(num_samples) <= max(greatest(16), 17 * 512)
    assert greatest(num_samples) < num_samples * 512
