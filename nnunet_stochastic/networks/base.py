"""What inference asks of every network: image -> p(η).

A network that has ``logit_distribution`` predicts a distribution over logits; any other is deterministic, all mass at
its output. Nothing outside of the networks depends on which of them it is.

The generative models (Christensen et al., Rethinking Uncertainty Quantification and Entanglement in Image Segmentation,
section 3.2) share one ``forward``: with the image alone it is the deterministic prediction, with the image and the
annotation whatever the loss of the model needs. All of training goes through it, because DistributedDataParallel and
torch.compile wrap nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from nnunet_stochastic.distributions import LogitDistribution
from nnunet_stochastic.targets import Target

__all__ = ["DistributionNetwork", "GenerativeNetwork", "LastLayerNetwork"]


class DistributionNetwork(nn.Module, ABC):
    """A network that predicts a distribution over logits."""

    #: Whether p(η) is more than a point mass.
    has_samples: bool = True
    #: Whether p(η) is a ``GaussianLogits``.
    is_gaussian: bool = False

    @abstractmethod
    def logit_distribution(self, x: Tensor) -> LogitDistribution:
        """p(η) of images (B, channels, *S)."""


class LastLayerNetwork(DistributionNetwork):
    """One whose logits, or where η is a Gaussian their mean, are a convolution of its last features."""

    @property
    @abstractmethod
    def last_layer(self) -> nn.Module:
        """Module that is called with the last features, whose ``weight`` and ``bias`` are those of the convolution."""

    @abstractmethod
    def distributions_of_features(self, features: Tensor) -> Callable[[], LogitDistribution]:
        """p(η) of features (B, F, *S) as a function of the weights that ``last_layer`` has when it is called.

        What else p(η) consists of does not depend on them, and is computed once.
        """


class GenerativeNetwork(DistributionNetwork):
    """A network that is trained with annotations as input."""

    def forward(self, x: Tensor, target: Target | None = None) -> Tensor | dict[str, Tensor]:
        """The deterministic prediction or, given an annotation, what the loss needs.

        Parameters
        ----------
        x
            Images, shape (B, channels, *S).
        target
            Annotations, one of each image.

        Returns
        -------
        Tensor or dict
            Logits (B, C, *S) without ``target``; else the tensors of ``training_outputs``.
        """
        return self.deterministic_logits(x) if target is None else self.training_outputs(x, target)

    @abstractmethod
    def deterministic_logits(self, x: Tensor) -> Tensor:
        """One prediction of images (B, channels, *S) that is no sample, logits (B, C, *S)."""

    @abstractmethod
    def training_outputs(self, x: Tensor, target: Target) -> dict[str, Tensor]:
        """Tensors by name, which depend on all parameters of the network."""
