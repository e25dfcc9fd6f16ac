"""What a voxel's logits are logits of, and the ways in which its probabilities are written.

C exclusive classes (softmax), or C regions that may overlap (sigmoid). Only differences of the logits of exclusive
classes matter, so they are kept as log-ratios to the first class, in D numbers that are free:

    x_c = η_c - η_0 = ln(p_c / p_0),  c = 1 … C-1        classes: D = C - 1
    x_c = η_c       = ln(p_c / (1 - p_c))                regions: D = C

For two classes x is the logit of the foreground. Linear maps of logits (blending of tiles, resampling) may as well be
applied to x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["OutcomeSpace"]

# Of a mean of float32 probabilities: what is smaller, or nearer to 1, is rounding.
_LEAST_PROBABILITY = 1e-30
_GREATEST_PROBABILITY = 1 - 2**-24


@dataclass(frozen=True)
class OutcomeSpace:
    """The classes or regions of a model.

    Probabilities are kept in P channels: for two classes that of the foreground, P = 1; in every other case P = C.

    Parameters
    ----------
    num_logits
        Number C of the network's output channels.
    regions
        Whether the channels are regions (region-based training) rather than exclusive classes.
    """

    num_logits: int
    regions: bool = False

    def __post_init__(self) -> None:
        if self.num_logits < (1 if self.regions else 2):
            raise ValueError(
                f"{self.num_logits} class has no uncertainty: the softmax over it is 1 everywhere; "
                "the dataset needs the background and at least one foreground label"
            )

    @property
    def two_classes(self) -> bool:
        """Whether P = 1 stands for two exclusive classes."""
        return not self.regions and self.num_logits == 2

    @property
    def scalar(self) -> bool:
        """Whether each probability is the sigmoid of a log-ratio of its own: two classes, and regions."""
        return self.regions or self.two_classes

    @property
    def num_channels(self) -> int:
        """P."""
        return 1 if self.two_classes else self.num_logits

    @property
    def num_log_ratios(self) -> int:
        """D."""
        return self.num_logits if self.regions else self.num_logits - 1

    @property
    def greatest_entropy(self) -> float:
        """The entropy where nothing is known, in nats."""
        return math.log(2 if self.regions else self.num_logits)

    @property
    def greatest_variance(self) -> float:
        """The largest variance of the probabilities, summed over the P channels."""
        return self.num_channels / 4 if self.scalar else 1 - 1 / self.num_logits

    def log_ratios(self, logits: Tensor) -> Tensor:
        """x of logits (C, *S): (D, *S), float32."""
        logits = logits.float()
        return logits if self.regions else logits[1:] - logits[:1]

    def probabilities(self, log_ratios: Tensor) -> Tensor:
        """Probabilities (P, *S) of log-ratios (D, *S)."""
        if self.scalar:
            return torch.sigmoid(log_ratios)
        return torch.softmax(torch.cat([torch.zeros_like(log_ratios[:1]), log_ratios]), dim=0)

    def log_ratios_of_probabilities(self, probabilities: Tensor) -> Tensor:
        """Log-ratios (D, *S) of probabilities (P, *S); finite, also where a probability is 0 or 1."""
        if self.scalar:
            probabilities = probabilities.clamp(_LEAST_PROBABILITY, _GREATEST_PROBABILITY)
            return probabilities.log() - torch.log1p(-probabilities)
        logarithms = probabilities.clamp_min(_LEAST_PROBABILITY).log_()
        return logarithms[1:] - logarithms[:1]

    def all_probabilities(self, probabilities: Tensor) -> Tensor:
        """Probabilities (P, *S) to one channel per class or region, (C, *S)."""
        return torch.cat([1 - probabilities, probabilities]) if self.two_classes else probabilities

    def entropy(self, probabilities: Tensor) -> Tensor:
        """Entropy of probabilities (P, *S) in nats, shape (*S); for regions the mean of their binary entropies."""
        total = torch.zeros_like(probabilities[0])
        for channel in probabilities:
            total += self.entropy_terms(channel)
        return total / self.num_channels if self.regions else total

    def entropy_terms(self, probabilities: Tensor) -> Tensor:
        """What each channel adds to the entropy (regions: to C times the entropy), in nats, elementwise."""
        terms = torch.special.entr(probabilities)
        return terms.add_(torch.special.entr(1 - probabilities)) if self.scalar else terms

    def entropy_lost_by_sampling(self, mean: Tensor, variance: Tensor) -> Tensor:
        """By how much the entropy of a mean of samples falls short on average, to first order: ½ Σ_c Var[p̄_c] / p̄_c.

        The entropy is concave, so that of an estimate p̄ with variance is too small on average (Miller 1955).

        Parameters
        ----------
        mean
            Mean p̄ of samples, (P, *S).
        variance
            Variance of the mean, Var[p̄], (P, *S).

        Returns
        -------
        Tensor
            nats, (*S), at least 0; for regions the mean of their binary entropies' losses.
        """
        total = torch.zeros_like(mean[0])
        for channel, spread in zip(mean, variance, strict=True):
            total += spread / channel.clamp_min(_LEAST_PROBABILITY)
            if self.scalar:
                total += spread / (1 - channel).clamp_min(2**-24)
        return total / (2 * self.num_channels if self.regions else 2)
