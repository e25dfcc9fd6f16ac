"""A U-Net planned by nnU-Net whose last segmentation layer has become heads: image -> parameters of p(η).

All of μ, D, A and W share the features of the nnU-Net
(*Structured Covariance Modeling Using Learned Mixture-of-Bases for Uncertainty in 3D Segmentation*, MoB,
section 3). Only the last segmentation layer of the decoder is replaced; every other weight keeps its name in the state
dict, and deep-supervision outputs stay deterministic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nnunet_stochastic.distributions import GaussianLogits
from nnunet_stochastic.networks.base import LastLayerNetwork
from nnunet_stochastic.networks.heads import GaussianHeads

__all__ = ["StochasticNetwork"]


class StochasticNetwork(LastLayerNetwork):
    """A backbone with heads.

    Parameters
    ----------
    backbone
        A network with an ``encoder`` and a ``decoder``, the decoder with ``seg_layers`` (PlainConvUNet,
        ResidualEncoderUNet and their like, 2D or 3D). It is taken apart: do not use it afterwards.
    build_heads
        Function from the last segmentation layer to the heads that replace it.

    Raises
    ------
    ValueError
        If the backbone is not built that way.
    """

    is_gaussian = True
    #: The backbone's own, of a class that is nnU-Net's matter.
    encoder: nn.Module
    decoder: Any

    def __init__(self, backbone: nn.Module, build_heads: Callable[[Any], GaussianHeads]) -> None:
        super().__init__()
        encoder, decoder = getattr(backbone, "encoder", None), getattr(backbone, "decoder", None)
        if not (isinstance(encoder, nn.Module) and isinstance(decoder, nn.Module) and hasattr(decoder, "seg_layers")):
            raise ValueError(
                f"{type(backbone).__name__} has no encoder, or no decoder with seg_layers: heads go on nnU-Net's "
                "U-Nets (PlainConvUNet, ResidualEncoderUNet), plan the dataset with one of them"
            )
        self.encoder = encoder
        self.decoder = decoder
        self.decoder.seg_layers[-1] = build_heads(self.decoder.seg_layers[-1])

    @property
    def heads(self) -> GaussianHeads:
        return self.decoder.seg_layers[-1]

    @property
    def last_layer(self) -> nn.Module:
        return self.heads

    def names_of_added_weights(self) -> set[str]:
        """Names in the state dict that the deterministic network does not have."""
        prefix = f"decoder.seg_layers.{len(self.decoder.seg_layers) - 1}."
        kept = {f"{prefix}weight", f"{prefix}bias"}
        return {name for name in self.state_dict() if name.startswith(prefix) and name not in kept}

    def forward(
        self, x: Tensor, return_parameters: bool = False
    ) -> Tensor | list[Tensor] | tuple[Tensor | list[Tensor], dict[str, Tensor]]:
        """Mean logits and, on request, the parameters of p(η).

        Parameters
        ----------
        x
            Images, shape (B, channels, *S).
        return_parameters
            Whether to return the parameters, too.

        Returns
        -------
        output
            μ, shape (B, C, *S); under deep supervision nnU-Net's list, highest resolution first.
        parameters
            Only with ``return_parameters``: tensors by name, as ``distribution`` takes them.
        """
        outputs = self.decoder(self.encoder(x))
        deep_supervision = isinstance(outputs, list)
        features = outputs[0] if deep_supervision else outputs
        parameters = self.heads.distribution_parameters(features) if return_parameters else None
        mean_logits = self.heads.mean_logits(features) if parameters is None else parameters["mean_logits"]
        output = [mean_logits, *outputs[1:]] if deep_supervision else mean_logits
        return output if parameters is None else (output, parameters)

    def distribution(self, parameters: dict[str, Tensor]) -> GaussianLogits:
        """p(η) with the parameters that ``forward`` returned; in full precision also where that ran under autocast."""
        with torch.autocast(parameters["mean_logits"].device.type, enabled=False):
            return self.heads.distribution(parameters)

    def logit_distribution(self, x: Tensor) -> GaussianLogits:
        _, parameters = self(x, return_parameters=True)
        return self.distribution(parameters)

    def distributions_of_features(self, features: Tensor) -> Callable[[], GaussianLogits]:
        distribution = self.distribution(self.heads.distribution_parameters(features))
        return lambda: distribution.with_mean(self.heads.mean_logits(features))
