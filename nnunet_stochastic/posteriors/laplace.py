"""Laplace approximation of the last layer: draws from a Gaussian around its trained weights.

    W_e = W + H^(-1/2) z_e        H = τ G + δ I        z_e ~ N(0, I)

G is the curvature of the training cases' cross-entropy in W (see ``last_layer_curvature``), δ the precision of a
Gaussian prior, and the temperature τ < 1 says that voxels are not independent: τ N is the effective number of N voxels.
Zepf et al., Laplacian Segmentation Networks, 2023, https://arxiv.org/abs/2303.13123, have it for the mean head of a
Gaussian over logits; Daxberger et al., Laplace Redux, 2021, https://arxiv.org/abs/2106.14806, for last layers at large.
The logits are linear in W, so nothing is linearised beyond the approximation itself.

Members come in antithetic pairs, z_2e+1 = -z_2e: their mean logits are those of the trained weights, and with two
classes or regions so is the segmentation of their mean probability, which of few independent draws of a wide posterior
it is not. An odd number of members leaves the last without its twin.

Exclusive classes do not feel what all their logits have in common, which G does not bound and a weak prior hardly does:
that part of a draw is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nnunet_stochastic.epistemic import EpistemicMethod
from nnunet_stochastic.networks.last_layer import last_layer_weights
from nnunet_stochastic.posteriors.base import LastLayerPosterior, Missing
from nnunet_stochastic.posteriors.curvature_spectrum import Spectrum
from nnunet_stochastic.posteriors.laplace_fit import LAPLACE_FILE, LaplaceFit

__all__ = ["LastLayerLaplace", "draw_weights"]


def draw_weights(
    spectrum: Spectrum, numbers: Tensor, *, temperature: float, prior_precision: float, regions: bool
) -> Tensor:
    """W_e - W of standard normal numbers z_e, both (…, C, F + 1), the bias last."""
    moved = spectrum.times_inverse_root(numbers, temperature, prior_precision)
    return moved if regions else moved - moved.mean(-2, keepdim=True)


class LastLayerLaplace(LastLayerPosterior):
    """One draw of the last layer's weights is one member."""

    files = (LAPLACE_FILE,)
    antithetic = True
    reason_of_equal_members = "the weights drawn differ by less than rounding, the prior is that precise"

    def __init__(self, method: EpistemicMethod, fold_folder: Path, options: Mapping[str, Any]) -> None:
        super().__init__(method, fold_folder, options)
        self.fit = LaplaceFit.load(fold_folder)
        self._trained: tuple[Tensor, Tensor] | None = None
        self._drawn: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    @classmethod
    def missing(cls, method: EpistemicMethod, fold_folder: Path, network: nn.Module) -> Missing | None:
        if (fold_folder / LAPLACE_FILE).is_file():
            return None
        return Missing(
            f"has no {LAPLACE_FILE}", "nnunet_stochastic_fit_laplace makes it from the preprocessed training cases"
        )

    def settings(self) -> dict[str, Any]:
        fit = self.fit
        return {
            "criterion": fit.criterion,
            "fitted_against": fit.fitted_against,
            "trained_against": fit.trained_against,
            "temperature": fit.temperature,
            "prior_precision": fit.prior_precision,
            "effective_voxels": fit.effective_voxels,
            "determined_weights": fit.determined_weights,
        }

    def notes(self) -> list[str]:
        return self.fit.notes()

    def require_origin(self, checkpoint: Path, *, checkpoint_sha256: str, plans_sha256: str) -> None:
        self.fit.require_origin(checkpoint, checkpoint_sha256=checkpoint_sha256, plans_sha256=plans_sha256)

    def activate(self, network: nn.Module, generator: torch.Generator) -> None:
        """Copy one draw into the last layer.

        Raises
        ------
        ValueError
            If the network's last layer is of another size, or the generator is not on the CPU. The network is
            unchanged.
        """
        self._put(network, generator, sign=1)

    def activate_twin(self, network: nn.Module, generator: torch.Generator) -> None:
        self._put(network, generator, sign=-1)

    @torch.no_grad()
    def _put(self, network: nn.Module, generator: torch.Generator, *, sign: int) -> None:
        if generator.device.type != "cpu":
            raise ValueError(f"weights are drawn on the CPU, got a generator on {generator.device}")
        layer = last_layer_weights(network)
        if self._trained is None:
            self._require_size(layer[0], network)
            self._trained = layer[0].clone(), layer[1].clone()
        key = generator.initial_seed(), sign
        if key not in self._drawn:
            self._drawn[key] = self._draw(self._trained, generator, sign=sign)
        _copy(self._drawn[key], layer)

    @torch.no_grad()
    def deactivate(self, network: nn.Module) -> None:
        if self._trained is not None:
            _copy(self._trained, last_layer_weights(network))

    def _draw(self, trained: tuple[Tensor, Tensor], generator: torch.Generator, *, sign: int) -> tuple[Tensor, Tensor]:
        fit, (weight, bias) = self.fit, trained
        size = fit.curvature.num_logits, fit.curvature.num_inputs
        moved = draw_weights(
            self.fit.spectrum,
            sign * torch.randn(size, generator=generator, dtype=torch.float64),
            temperature=fit.temperature,
            prior_precision=fit.prior_precision,
            regions=fit.regions,
        )
        return (
            (weight.double().cpu() + moved[:, :-1].reshape(weight.shape)).to(weight),
            (bias.double().cpu() + moved[:, -1]).to(bias),
        )

    def _require_size(self, weight: Tensor, network: nn.Module) -> None:
        curvature = self.fit.curvature
        expected = curvature.num_logits, curvature.num_inputs - 1
        found = weight.shape[0], weight[0].numel()
        if found != expected:
            raise ValueError(
                f"{self.fold_folder / LAPLACE_FILE} is of a last layer with {expected[0]} logits of {expected[1]} "
                f"inputs, that of {type(network).__name__} has {found[0]} of {found[1]}: fit it again"
            )


def _copy(source: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor]) -> None:
    for values, parameter in zip(source, target, strict=True):
        parameter.copy_(values)
