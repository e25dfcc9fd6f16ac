"""Heads: 1x1 convolutions from the last features of a segmentation network to the parameters of p(η).

The heads take the place of the network's last segmentation layer. They keep that layer's ``weight`` and ``bias`` under
their names, so that the mean μ of every model *is* the deterministic network's output, and a deterministic state dict
fits; whatever a model adds is named below them. Variances start small (log-variance -3, zero weights), so that a
fine-tuned model starts as the deterministic one.

Options of a model are keyword arguments of its heads, with their defaults; trainers take both from here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnunet_stochastic.distributions import GaussianLogits, full_precision, kl_to_unit_variance

__all__ = [
    "INITIAL_LOG_VARIANCE",
    "LOG_VARIANCE_RANGE",
    "Convolution",
    "GaussianHeads",
    "constant_convolution",
    "pointwise_convolution",
    "weights_of",
]

#: A layer that heads may replace: 1x1, in 2D or 3D, with a bias.
Convolution: TypeAlias = nn.Conv2d | nn.Conv3d

#: Log-variances are clamped to this range before they are exponentiated.
LOG_VARIANCE_RANGE = (-5.0, 5.0)
#: Log-variance with which training starts.
INITIAL_LOG_VARIANCE = -3.0


def pointwise_convolution(like: Convolution, out_channels: int) -> Convolution:
    """A 1x1 convolution of the kind of ``like``, on the same features."""
    return type(like)(like.in_channels, out_channels, kernel_size=1)


def constant_convolution(like: Convolution, out_channels: int, value: float) -> Convolution:
    """A 1x1 convolution of the kind of ``like`` whose output is ``value`` everywhere until it is trained."""
    layer = pointwise_convolution(like, out_channels)
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.get_parameter("bias"), value)
    return layer


def weights_of(layer: Convolution) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that has one."""
    assert layer.bias is not None
    return layer.weight, layer.bias


class GaussianHeads(nn.Module, ABC):
    """Mean and independent variances; the base of every Gaussian model.

    Parameters
    ----------
    segmentation_layer
        The 1x1 convolution (2D or 3D) that the heads replace. Its parameters become the mean's.
    log_variance_bias
        Log-variance with which training starts.
    """

    def __init__(self, segmentation_layer: Convolution, *, log_variance_bias: float = INITIAL_LOG_VARIANCE) -> None:
        super().__init__()
        if not isinstance(segmentation_layer, nn.Conv2d | nn.Conv3d) or segmentation_layer.bias is None:
            raise ValueError(
                "the network's last segmentation layer must be a Conv2d or Conv3d with a bias, as in nnU-Net's own "
                f"U-Nets, got {segmentation_layer}"
            )
        if any(size != 1 for size in segmentation_layer.kernel_size):
            raise ValueError(
                f"the last segmentation layer must have kernel size 1, got {segmentation_layer.kernel_size}"
            )
        self.weight = segmentation_layer.weight
        self.bias = segmentation_layer.bias
        self.log_variance = constant_convolution(segmentation_layer, segmentation_layer.out_channels, log_variance_bias)

    def forward(self, features: Tensor) -> Tensor:
        """Hand the features (B, F, *S) through: the decoder calls this in the place of its last segmentation layer."""
        return features

    def mean_logits(self, features: Tensor) -> Tensor:
        """μ, shape (B, C, *S), from features (B, F, *S)."""
        convolution = functional.conv3d if self.weight.ndim == 5 else functional.conv2d
        return convolution(features, self.weight, self.bias)

    def distribution_parameters(self, features: Tensor) -> dict[str, Tensor]:
        """Parameters of p(η) by their names in the package's documentation.

        μ and the variances are float32 in training. Without gradients they are left in the precision of the network,
        which has no more digits of them: of many classes half of their memory.
        """
        outputs = self._outputs(features)
        mean_logits, log_variance = outputs.pop("mean_logits"), outputs.pop("log_variance")
        if torch.is_grad_enabled():
            mean_logits = full_precision(mean_logits)
            diag_var = torch.exp(full_precision(log_variance).clamp(*LOG_VARIANCE_RANGE))
        else:
            diag_var = log_variance.clamp_(*LOG_VARIANCE_RANGE).exp_()
        return {"mean_logits": mean_logits, "diag_var": diag_var, **outputs}

    def layers(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Weights and biases of the 1x1 convolutions by the names of their outputs; subclasses add theirs."""
        return {"mean_logits": (self.weight, self.bias), "log_variance": weights_of(self.log_variance)}

    def _outputs(self, features: Tensor) -> dict[str, Tensor]:
        """Outputs (B, channels, *S) of all layers."""
        layers = self.layers()
        convolution = functional.conv3d if self.weight.ndim == 5 else functional.conv2d
        if features.device.type != "cuda":
            return {name: convolution(features, *weights) for name, weights in layers.items()}
        # All in one, which reads the features once; for training no product of matrices, whose gradient in the weights
        # would be slow.
        weight = torch.cat([weight for weight, _ in layers.values()])
        bias = torch.cat([bias for _, bias in layers.values()])
        if torch.is_grad_enabled():
            outputs = convolution(features, weight, bias)
        else:
            batched = weight.flatten(1).expand(len(features), *weight.shape[:2])
            outputs = torch.baddbmm(bias[None, :, None], batched, features.flatten(2)).unflatten(2, features.shape[2:])
        return dict(zip(layers, outputs.split([len(bias) for _, bias in layers.values()], dim=1), strict=True))

    @abstractmethod
    def distribution(self, parameters: dict[str, Tensor]) -> GaussianLogits:
        """p(η) with the given parameters."""

    def regularizers(self, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
        """What training adds to the loss for given parameters, by name: scalars, to be minimised.

        The trainer weighs each term by its attribute ``weight_NAME``.
        """
        return {"kl": kl_to_unit_variance(parameters["diag_var"])}
