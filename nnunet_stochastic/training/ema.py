"""An exponential moving average of the weights that an optimizer passes through.

    θ̄_0 = θ_0,   θ̄_t = d_t θ̄_{t-1} + (1 - d_t) θ_t,   d_t = min(d, (t - 1) / (t + 8))

With d = 0.999 it is what Christensen et al. (Rethinking Uncertainty Quantification and Entanglement in Image
Segmentation, section 3.5) evaluate. The paper does not say how the average starts. Taken literally, d = 0.999 leaves
the initial weights with 37 % after 1000 steps; the rising d_t, after the ``num_updates`` of TensorFlow's
ExponentialMovingAverage, lets θ̄_t look back over about a ninth of the steps so far, until that is 1 / (1 - d).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["ExponentialMovingAverage", "copy_weights"]


class ExponentialMovingAverage:
    """θ̄ of all parameters of a network, in their own precision (float32 in nnU-Net) and on their device.

    Parameters
    ----------
    network
        Network with the parameters θ_0, without DistributedDataParallel or torch.compile around it.
    decay
        Decay d, 0 ≤ d < 1.
    num_updates
        Number t of updates so far. If not 0, the parameters are θ̄_t, from which a training goes on.
    """

    #: By parameter name.
    weights: dict[str, Tensor]

    def __init__(self, network: nn.Module, decay: float, *, num_updates: int = 0) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of the moving average must be at least 0 and below 1, got {decay}")
        self.decay = decay
        self.num_updates = num_updates
        self.weights = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}

    def update(self, network: nn.Module) -> None:
        """Take in θ_t, the parameters after a step of the optimizer."""
        self.num_updates += 1
        decay = min(self.decay, (self.num_updates - 1) / (self.num_updates + 8))
        current = [parameter.detach() for parameter in network.parameters()]
        get_ema_multi_avg_fn(decay)(list(self.weights.values()), current, self.num_updates)

    @contextmanager
    def in_place_of(self, network: nn.Module) -> Iterator[dict[str, Tensor]]:
        """Let the network have the weights θ̄ within the block, and bit for bit its own again afterwards.

        The block is given the network's own weights by name.
        """
        own = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
        copy_weights(self.weights, network)
        try:
            yield own
        finally:
            copy_weights(own, network)


@torch.no_grad()
def copy_weights(weights: dict[str, Tensor], network: nn.Module) -> None:
    """Write weights by name into the parameters of a network; one for each must be there."""
    # In place: torch.compile, DistributedDataParallel and the optimizer hold the parameters themselves.
    for name, parameter in network.named_parameters():
        parameter.copy_(weights[name])
