"""SWAG: draws from a Gaussian over weights, fitted to T snapshots θ_1 … θ_T of the last epochs of one training.

    θ = mean + √scale (σ ∘ z1 + D z2 / √(T - 1)),    scale = 1/2

with mean and σ² of ``swag_moments``, D_i = θ_i - mean, z1 ~ N(0, I) and one z2 ~ N(0, I_T) for all layers, so that
weights of different layers covary (Maddox et al., A Simple Baseline for Bayesian Uncertainty in Deep Learning, 2019,
Eq. 1, https://arxiv.org/abs/1902.02476; T = 30 as in section 3.2 of Christensen et al., Rethinking Uncertainty
Quantification and Entanglement in Image Segmentation). With scale 1/2, Cov θ is the mean of diag σ² and D Dᵀ / (T - 1).
Maddox et al. take D_i from the mean of the first i snapshots, as they keep no others; here all lie on disk, D_i is
taken from the final mean, and D Dᵀ / (T - 1) is the sample covariance itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from nnunet_stochastic.epistemic import SWAG_SCALE, EpistemicMethod
from nnunet_stochastic.posteriors.base import Missing, WeightPosterior, train_for_files
from nnunet_stochastic.posteriors.snapshots import snapshot_path
from nnunet_stochastic.posteriors.swag_moments import SWAG_FILE, SwagMoments

__all__ = ["Swag"]

#: Least variance of a weight.
_LEAST_VARIANCE = 1e-30


class Swag(WeightPosterior):
    """One draw of all weights is one member."""

    files = (SWAG_FILE,)
    changes_weights = True
    #: Scale of the covariance where none is given.
    default_scale: ClassVar[float] = 0.5

    def __init__(self, method: EpistemicMethod, fold_folder: Path, options: Mapping[str, Any]) -> None:
        super().__init__(method, fold_folder, options)
        given = options.get(SWAG_SCALE.name)
        self.scale = self.default_scale if given is None else float(given)
        """Scale of the covariance; 0 gives the mean itself."""
        if not 0 <= self.scale < math.inf:
            raise ValueError(f"{SWAG_SCALE.name} must be a finite number of at least 0, got {self.scale}")
        self.moments = SwagMoments.load(fold_folder)

    @classmethod
    def missing(cls, method: EpistemicMethod, fold_folder: Path, network: nn.Module) -> Missing | None:
        # Snapshots without moments are an unfinished training, which loading reports.
        if (fold_folder / SWAG_FILE).is_file() or snapshot_path(fold_folder, epoch=0).parent.is_dir():
            return None
        return Missing(
            f"left no SWAG statistics ({SWAG_FILE})",
            train_for_files(method, network),
        )

    @classmethod
    def files_of_fold(cls, fold_folder: Path) -> list[Path]:
        moments = SwagMoments.load(fold_folder)
        return [fold_folder / SWAG_FILE, *(snapshot_path(fold_folder, epoch) for epoch in moments.epochs)]

    @torch.no_grad()
    def activate(self, network: nn.Module, generator: torch.Generator) -> None:
        """Copy one draw of all weights into the network.

        Raises
        ------
        ValueError
            If the network has other parameters than the one that was trained, or the generator is not on the CPU. The
            network is unchanged.
        """
        if generator.device.type != "cpu":
            raise ValueError(f"weights are drawn on the CPU, got a generator on {generator.device}")
        parameters = self.moments.parameters_of(network)
        factors = self._draw_factors(generator)
        for name, mean in self.moments.mean.items():
            z1 = torch.randn(mean.shape, generator=generator)
            noise = self.moments.variance[name].clamp_min(_LEAST_VARIANCE).sqrt().mul_(z1)
            for index, factor in enumerate(factors):
                noise.add_(self.moments.snapshots[index][name] - mean, alpha=factor)
            parameters[name].copy_(mean + math.sqrt(self.scale) * noise)

    def _draw_factors(self, generator: torch.Generator) -> list[float]:
        """What the deviation of each snapshot is multiplied by, z2 / √(T - 1)."""
        num_snapshots = len(self.moments.snapshots)
        return (torch.randn(num_snapshots, generator=generator) / math.sqrt(num_snapshots - 1)).tolist()
