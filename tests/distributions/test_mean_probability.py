"""Logits of a mean probability, put through the softmax again."""

from __future__ import annotations

import pytest
import torch

from nnunet_stochastic.distributions import logits_of_mean_probability


def test_softmax_of_the_result_is_the_mean_softmax() -> None:
    samples = torch.randn(5, 2, 3, 4)
    mean = logits_of_mean_probability(iter(samples), regions=False).softmax(1)
    torch.testing.assert_close(mean, samples.softmax(2).mean(0))


def test_sigmoid_of_the_result_is_the_mean_sigmoid() -> None:
    samples = torch.randn(5, 2, 3, 4)
    mean = logits_of_mean_probability(iter(samples), regions=True).sigmoid()
    torch.testing.assert_close(mean, samples.sigmoid().mean(0))


def test_certain_samples_have_finite_logits() -> None:
    samples = torch.tensor([[[[200.0], [-200.0]]]])
    for regions in (False, True):
        assert logits_of_mean_probability(samples, regions=regions).isfinite().all()
    with pytest.raises(ValueError, match="no samples"):
        logits_of_mean_probability([], regions=False)
