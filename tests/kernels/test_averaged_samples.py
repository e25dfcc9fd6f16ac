"""Samples of many classes by a kernel: the sums of plain torch, of the same noise, in every view."""

from __future__ import annotations

import pytest
import torch

from nnunet_stochastic.distributions import BasisGaussian
from nnunet_stochastic.inference import averaging
from nnunet_stochastic.inference.averaging import ProbabilityAverage
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.inference.sliding_window import mirrored_views, spread_samples, sum_of_weights, tiles
from nnunet_stochastic.inference.stitching import Stitching
from nnunet_stochastic.moments import MomentSums
from nnunet_stochastic.outcomes import OutcomeSpace

pytest.importorskip("triton", reason="Triton is not installed")

CLASSES, RANK = 7, 3  # 7 · 8 / 2 > 7 + 3: noise of C + R numbers


def distributions(patch, count, *, device, dtype=torch.float32):
    """Of each view of each tile, with partitions of unequal sizes."""
    generator = torch.Generator().manual_seed(1)
    result = []
    for _ in range(count):
        fields = {
            "mean_logits": 2 * torch.randn(1, CLASSES, *patch, generator=generator),
            "diag_var": torch.rand(1, CLASSES, *patch, generator=generator) + 0.1,
            "basis_scale": torch.rand(1, RANK, *patch, generator=generator),
        }
        bases = torch.randn(1, *[2] * len(patch), CLASSES, RANK, generator=generator)
        fields = {name: field.to(dtype).float().to(device) for name, field in fields.items()}
        result.append(BasisGaussian(**fields, partition_bases=bases.to(device)))
    return result


def predict(monkeypatch, shape, patch, mirror_axes, num_samples, *, device, kernel, num_members=1, half=False):
    """Moments of an image."""
    monkeypatch.setattr(averaging, "use_kernels", lambda tensor: kernel)
    space, noise, views = OutcomeSpace(CLASSES), NoiseKey(5, "case"), mirrored_views(mirror_axes)
    weights = torch.rand(patch, generator=torch.Generator().manual_seed(2)).add_(0.5).to(device)
    image_tiles = tiles(shape, patch, 0.5)
    stitching = Stitching(weights, sum_of_weights(image_tiles, weights, shape))
    counts = {view: count for view, count in zip(views, spread_samples(num_samples, len(views)), strict=True) if count}
    collector = ProbabilityAverage(
        space,
        stitching,
        samples_of_views=counts,
        num_members=num_members,
        num_views=len(views),
        estimator="mc",
        corrected=True,
        expected_entropy=True,
        second_moment=True,
        noise=noise,
    )
    if half and device.type == "cpu":  # as on CUDA
        collector._in_half, collector._mean = True, collector._mean.half()
    adopts = collector.hands_over_moments and num_members == 1
    sums = MomentSums(space, shape, num_members=num_members, lost_entropy=True, adopts=adopts, device=device)
    for member in range(num_members):
        collector.start(f"fold_{member}", member)
        given = iter(distributions(patch, len(image_tiles) * len(counts), device=device))
        for tile in image_tiles:
            for view in counts:
                collector.add_view(next(given), tile, view)
            collector.close_tile(tile)
        collector.finish()
        collector.add_moments_to(sums)
    return sums.moments()


def close(found, expected, *, atol):
    torch.testing.assert_close(found.mean.cpu(), expected.mean, rtol=0, atol=atol)
    torch.testing.assert_close(found.second_moment.cpu(), expected.second_moment, rtol=0, atol=atol)
    torch.testing.assert_close(found.expected_entropy.cpu(), expected.expected_entropy, rtol=0, atol=atol)
    # Its spread is kept in eight binary digits.
    torch.testing.assert_close(found.lost_entropy.cpu(), expected.lost_entropy, rtol=2e-2, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "patch", "mirror_axes", "num_samples"),
    [
        ((4, 5, 9), (4, 5, 6), (0, 1, 2), 30),  # views of 4 and of 3 samples
        ((4, 5, 6), (4, 5, 6), (1,), 4),  # of one pair each, which say nothing of their spread
        ((4, 5, 6), (4, 5, 6), (), 7),
        ((2, 5, 6), (5, 4), (0, 1), 13),  # tiles of slices
    ],
)
@pytest.mark.parametrize("noise_is_drawn_before", [True, False])
def test_sums_are_those_of_torch(monkeypatch, device, shape, patch, mirror_axes, num_samples, noise_is_drawn_before):
    from nnunet_stochastic.kernels import averaged_samples

    if not noise_is_drawn_before:
        monkeypatch.setattr(averaged_samples, "_MOST_BYTES_OF_NOISE", 0)
    arguments = (monkeypatch, shape, patch, mirror_axes, num_samples)
    expected = predict(*arguments, device=torch.device("cpu"), kernel=False)
    assert (expected.lost_entropy.max() > 1e-2) == (num_samples > 4)
    found = predict(*arguments, device=device, kernel=True)
    close(found, expected, atol=2e-3 if found.in_half_precision else 1e-5)


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("num_members", [1, 2])
def test_half_precision_of_the_mean_changes_little(monkeypatch, device, kernel, num_members):
    arguments = (monkeypatch, (4, 5, 9), (4, 5, 6), (0,), 6)
    expected = predict(*arguments, device=torch.device("cpu"), kernel=False, num_members=num_members)
    found = predict(*arguments, device=device, kernel=kernel, num_members=num_members, half=True)
    assert found.in_half_precision == (num_members == 1)
    close(found, expected, atol=1e-3)
    torch.testing.assert_close(found.mean.sum(0).cpu(), torch.ones(4, 5, 9), rtol=0, atol=1e-6)
    torch.testing.assert_close(found.mean.log().cpu(), expected.mean.log(), rtol=0, atol=3e-3)
