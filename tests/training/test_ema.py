"""The moving average of weights: its closed form, and that exchanging weights loses no bit."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from nnunet_stochastic.training.ema import ExponentialMovingAverage, copy_weights


def set_weights(network: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(value)


def test_closed_form_while_the_decay_rises_and_when_it_is_reached() -> None:
    """1 - θ̄ of a step function is the product of the decays."""
    network = nn.Conv2d(2, 3, 1)
    average = ExponentialMovingAverage(network, 0.9)
    set_weights(network, 0.0)
    average.update(network)
    assert not any(weights.any() for weights in average.weights.values()), "initial weights remain"
    set_weights(network, 1.0)
    # The decays 1/10, 2/11, …, n/(n + 9) multiply to n! 9! / (n + 9)!, and n/(n + 9) reaches 0.9 at n = 81.
    for n in range(1, 121):
        average.update(network)
        rising = min(n, 81)
        expected = math.factorial(rising) * math.factorial(9) / math.factorial(rising + 9) * 0.9 ** (n - rising)
        for weights in average.weights.values():
            torch.testing.assert_close(1 - weights, torch.full_like(weights, expected), rtol=1e-4, atol=3e-7)
    assert average.num_updates == 121


def test_it_is_the_weighted_mean_of_what_it_has_seen() -> None:
    torch.manual_seed(0)
    network = nn.Linear(4, 5)
    average = ExponentialMovingAverage(network, 0.15, num_updates=50)
    seen = [network.weight.detach().clone()]
    for _ in range(6):
        set_weights(network, 0.0)
        with torch.no_grad():
            network.weight.normal_()
        seen.append(network.weight.detach().clone())
        average.update(network)
    powers = [0.15**6, *(0.85 * 0.15**k for k in range(5, -1, -1))]
    expected = sum(power * weight.double() for power, weight in zip(powers, seen, strict=True))
    torch.testing.assert_close(average.weights["weight"].double(), expected, rtol=1e-6, atol=1e-6)
    assert sum(powers) == pytest.approx(1)


def test_the_network_has_the_average_within_the_block_alone() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    average = ExponentialMovingAverage(network, 0.999)
    averaged = {name: weights.clone() for name, weights in average.weights.items()}
    parameters = list(network.parameters())
    with torch.no_grad():
        for parameter in parameters:
            parameter.normal_()
    own = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}

    def fail_within_the_block() -> None:
        with average.in_place_of(network) as given:
            assert all(torch.equal(given[name], value) for name, value in own.items())
            assert all(torch.equal(parameter, averaged[name]) for name, parameter in network.named_parameters())
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_within_the_block()
    for old, (name, parameter) in zip(parameters, network.named_parameters(), strict=True):
        assert old is parameter, "the optimizer holds another parameter now"
        assert parameter.requires_grad
        assert torch.equal(parameter, own[name])
        assert torch.equal(average.weights[name], averaged[name])


def test_weights_that_a_network_lacks_in_the_file() -> None:
    with pytest.raises(KeyError, match="bias"):
        copy_weights({"weight": torch.zeros(1, 2)}, nn.Linear(2, 1))


@pytest.mark.parametrize("decay", [1.0, -0.1, 1.5])
def test_decays_that_are_none(decay: float) -> None:
    with pytest.raises(ValueError, match=rf"at least 0 and below 1, got {decay}"):
        ExponentialMovingAverage(nn.Linear(1, 1), decay)
