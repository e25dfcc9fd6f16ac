"""Networks: image -> parameters of p(η). Knows torch alone. Heads of each covariance model: ``networks.heads``."""

from nnunet_stochastic.networks.attention_unet import AttentionEncoder, AttentionUNet
from nnunet_stochastic.networks.base import DistributionNetwork, GenerativeNetwork
from nnunet_stochastic.networks.diffusion import DiffusionNetwork
from nnunet_stochastic.networks.heads import GaussianHeads
from nnunet_stochastic.networks.prob_unet import ProbabilisticUNet
from nnunet_stochastic.networks.softmax import SoftmaxNetwork
from nnunet_stochastic.networks.ssn import StochasticSegmentationNetwork
from nnunet_stochastic.networks.stochastic import StochasticNetwork

__all__ = [
    "AttentionEncoder",
    "AttentionUNet",
    "DiffusionNetwork",
    "DistributionNetwork",
    "GaussianHeads",
    "GenerativeNetwork",
    "ProbabilisticUNet",
    "SoftmaxNetwork",
    "StochasticNetwork",
    "StochasticSegmentationNetwork",
]
