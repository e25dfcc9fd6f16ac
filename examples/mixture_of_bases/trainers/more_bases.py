"""The mixture of bases with other numbers of bases than its three (Figure 4 of "Structured Covariance Modeling Using
Learned Mixture-of-Bases for Uncertainty in 3D Segmentation"); one basis is nnUNetTrainerSingleBasis.
"""

from nnunet_stochastic.training import BasisTrainer


class nnUNetTrainerMoB2(BasisTrainer):
    num_bases = 2


class nnUNetTrainerMoB4(BasisTrainer):
    num_bases = 4


class nnUNetTrainerMoB5(BasisTrainer):
    num_bases = 5
