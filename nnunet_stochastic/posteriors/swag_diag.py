"""SWAG-D: draws from the diagonal of SWAG's Gaussian, each weight by itself.

    θ = mean + √scale σ ∘ z1,    scale = 1

(Maddox et al. 2019, https://arxiv.org/abs/1902.02476, section 3.1; see ``swag``.)
"""

from __future__ import annotations

import torch

from nnunet_stochastic.posteriors.swag import Swag

__all__ = ["SwagDiagonal"]


class SwagDiagonal(Swag):
    """One draw of all weights is one member; weights do not covary."""

    default_scale = 1.0

    def _draw_factors(self, generator: torch.Generator) -> list[float]:
        return []
