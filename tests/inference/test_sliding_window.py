import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_stochastic.inference.seeds import stream_seed
from nnunet_stochastic.inference.sliding_window import (
    View,
    augmented_views,
    mirrored_views,
    predict_logit_distribution,
    stitch_tile,
    tile_weights,
    tiles,
)
from nnunet_stochastic.moments import MomentSums, OutcomeSpace


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


def test_samples_are_spread_evenly_over_the_views():
    assert mirrored_views((), 30, once=False) == [View((), 30)]
    counts = [view.num_samples for view in mirrored_views((0, 1, 2), 30, once=False)]
    assert counts == [4, 4, 4, 4, 4, 4, 3, 3]
    assert [view.flipped_axes for view in mirrored_views((1, 0), 4, once=False)] == [(), (0,), (1,), (0, 1)]


def test_views_without_samples_are_left_out():
    assert mirrored_views((0, 1), 2, once=False) == [View((), 1), View((0,), 1)]


def test_deterministic_networks_run_each_view_once():
    assert mirrored_views((0, 1), 30, once=True) == [View(axes, 1) for axes in [(), (0,), (1,), (0, 1)]]


def test_augmented_views_shift_image_channels_alone():
    chosen = augmented_views((0, 1), 200, num_channels=2, seed=0)
    assert [view.flipped_axes for view in chosen[:5]] == [(), (0,), (1,), (0, 1), ()]
    assert chosen == augmented_views((0, 1), 200, num_channels=2, seed=0)
    assert chosen[0] != augmented_views((0, 1), 200, num_channels=2, seed=1)[0]
    shifts = np.array([view.shift for view in chosen])
    assert shifts.shape == (200, 2)
    np.testing.assert_allclose(shifts.std(0), 0.1, rtol=0.2)
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.3
    patch = torch.rand(1, 3, 4, 5)  # the last channel is of a previous stage
    flipped = View((1,), 1, (0.5, -1.0)).of(patch).flip(3)
    torch.testing.assert_close(flipped - patch, torch.tensor([0.5, -1.0, 0.0]).view(1, 3, 1, 1).expand_as(patch))


def test_seeds_depend_on_the_key_alone():
    assert stream_seed(0, "fold_0", (), (0, 8, 16)) == 6284386401336263326
    keys = [(seed, "fold_0", axes, (0, start)) for seed in range(3) for axes in [(), (0,)] for start in range(50)]
    assert len({stream_seed(*key) for key in keys}) == len(keys)


def predict(network, image, tile_order, *, num_samples=1, seed=0, patch_size=(8, 8, 8)):
    shape = tuple(image.shape[1:])
    sums = MomentSums(OutcomeSpace(2), shape)
    image_tiles = tiles(shape, patch_size, 0.5)
    for index in tile_order(len(image_tiles)):
        stitch_tile(
            network,
            image,
            image_tiles[index],
            sums,
            weights=tile_weights(patch_size),
            views=mirrored_views((0, 1, 2), num_samples, once=False),
            seed=seed,
            member="fold_0",
            device=torch.device("cpu"),
        )
    sums.finish_member()
    return sums.moments()


class Noise(torch.nn.Module):
    """Logits of mean 0, with noise per voxel or one draw for the whole image."""

    def __init__(self, distribution, *, shared: bool) -> None:
        super().__init__()
        self.distribution_class, self.shared = distribution, shared

    def logit_distribution(self, x):
        distribution = self.distribution_class(torch.zeros(1, 2, *x.shape[2:]))
        transform = distribution.transform
        distribution.transform = lambda noise, shared: transform(noise * (not self.shared), shared * self.shared)
        return distribution


def test_noise_of_the_whole_image_is_the_same_in_every_tile(folders):
    moments = predict(Noise(folders.UnitGaussian, shared=True), torch.zeros(1, 20, 12, 8), range)
    value = moments.mean.flatten()[0].item()
    torch.testing.assert_close(moments.mean, torch.full_like(moments.mean, value))
    assert abs(value - 0.5) > 1e-3


def test_noise_of_voxels_differs_between_tiles_and_views(folders):
    network = Noise(folders.UnitGaussian, shared=False)
    first = predict(network, torch.zeros(1, 16, 8, 8), range, num_samples=8).mean
    left, right = first[:, :4], first[:, 12:]  # each in one tile only
    assert np.corrcoef(left.flatten(), right.flatten())[0, 1] < 0.2
    assert np.corrcoef(left.flatten(), right.flip(1).flatten())[0, 1] < 0.2


def test_order_of_tiles_and_seed(folders):
    network = Noise(folders.UnitGaussian, shared=False)
    image = torch.zeros(1, 20, 12, 8)
    first = predict(network, image, range, num_samples=5)
    reordered = predict(network, image, lambda count: reversed(range(count)), num_samples=5)
    torch.testing.assert_close(first.mean, reordered.mean)
    torch.testing.assert_close(first.expected_entropy, reordered.expected_entropy)
    assert not torch.allclose(first.mean, predict(network, image, range, num_samples=5, seed=1).mean)


def test_networks_without_distribution_are_point_masses():
    distribution = predict_logit_distribution(torch.nn.Conv2d(1, 2, 1), torch.rand(1, 1, 4, 4))
    assert not distribution.is_random


def test_memory_does_not_grow_with_the_number_of_samples(folders, monkeypatch):
    counts = []
    rsample = folders.UnitGaussian.rsample

    def recording(self, num_samples, **generators):
        counts.append(num_samples)
        return rsample(self, num_samples, **generators)

    monkeypatch.setattr(folders.UnitGaussian, "rsample", recording)
    network = folders.GaussianNetwork(torch.nn.Conv3d(1, 2, 1)).requires_grad_(False)
    predict(network, torch.zeros(1, 8, 8, 8), range, num_samples=100)
    assert sum(counts) == 100
    assert max(counts) <= 8
