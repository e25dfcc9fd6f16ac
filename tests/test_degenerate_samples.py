from __future__ import annotations

import pytest

from nnunet_stochastic.degenerate_samples import MINIMUM_SAMPLES, degenerate_samples


@pytest.mark.parametrize(
    ("samples", "mean", "reason"),
    [
        ([0.0, 0.0, 0.0], 0.02, "empty"),
        ([0.0, 0.0, 0.0], 1e-6, "empty"),  # one voxel of 128 x 128 x 64
        ([1e-4, 0.0, 2e-4], 0.02, "empty"),  # speckle of a hundredth of the structure
        ([0.0, 0.0, 0.0], 0.0, None),  # nothing to be seen, nothing sampled
        ([0.0, 0.0, 0.001], 0.02, None),
        ([1.0, 1.0, 1.0], 0.02, "full"),
        ([0.995, 0.999, 1.0], 0.02, "full"),
        ([1.0, 1.0, 1.0], 0.0, "full"),
        ([1.0, 1.0, 1.0], 1.0, None),  # an organ that fills the patch
        ([1.0, 0.9, 1.0], 0.02, None),
        ([0.0, 1.0, 0.0], 0.02, "empty or full"),
        ([0.0, 1.0, 0.0], 0.0, "empty or full"),
        ([0.0, 1.0, 0.0], 1.0, "empty or full"),
        ([0.0, 1.0, 0.5], 0.5, None),
        ([0.02, 0.03, 0.01], 0.02, None),
    ],
)
def test_samples_are_degenerate_where_all_are_empty_or_fill_the_image_and_the_mean_does_not(samples, mean, reason):
    assert degenerate_samples(samples, mean) == reason


def test_too_few_samples_say_nothing():
    assert degenerate_samples([0.0] * (MINIMUM_SAMPLES - 1), 0.5) is None
    assert degenerate_samples([0.0] * MINIMUM_SAMPLES, 0.5) == "empty"


@pytest.mark.parametrize(("samples", "mean"), [([0.5, 1.2, 0.5], 0.5), ([0.5] * 3, -0.1), ([float("nan")] * 3, 0.5)])
def test_a_share_outside_of_0_and_1_is_refused(samples, mean):
    with pytest.raises(ValueError, match="must be in"):
        degenerate_samples(samples, mean)
