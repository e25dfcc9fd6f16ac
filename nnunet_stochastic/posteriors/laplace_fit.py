"""What a fit of the last-layer Laplace approximation leaves: ``fold_X/laplace.pth``, plain data.

The curvature G of the trained weights, a temperature τ and a prior precision δ (see ``laplace``), the annotations that
they were fitted against, the hashes of the checkpoint and the plans that they are of, and a record of how they came
about.

What the data say is told by two numbers: τ N, the effective number of N annotated voxels, and the number of weights
that they and not the prior determine (MacKay, Bayesian interpolation, Neural Computation 4, 1992, Eq. 4.9),

    γ = tr τ G (τ G + δ I)^(-1) = Σ_k τ λ_k / (τ λ_k + δ)        λ_k the eigenvalues of G
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from nnunet_stochastic.annotations import ANNOTATION_NAMES, ANNOTATIONS, Annotations
from nnunet_stochastic.checkpoints import read_checkpoint
from nnunet_stochastic.io.staging import staged_file
from nnunet_stochastic.posteriors.curvature_spectrum import Spectrum
from nnunet_stochastic.posteriors.last_layer_curvature import LastLayerCurvature

__all__ = ["LAPLACE_FILE", "LaplaceFit"]

#: In the folder of a fold, beside the checkpoint.
LAPLACE_FILE = "laplace.pth"
#: What reads a file of another format would read it wrongly.
_FORMAT = 2
_AGAIN = "fit it again with nnunet_stochastic_fit_laplace --overwrite"
_KINDS: dict[str, type | tuple[type, ...]] = {
    "num_logits": int,
    "num_inputs": int,
    "regions": bool,
    "temperature": float,
    "prior_precision": float,
    "checkpoint_sha256": str,
    "plans_sha256": str,
    "criterion": str,
    "fitted_against": str,
    "trained_against": str,
    "voxels": float,
    "at_edge": bool,
    "curvature": dict,
    "record": dict,
}


@dataclass(frozen=True)
class LaplaceFit:
    """A fit.

    Parameters
    ----------
    curvature
        G.
    regions
        Whether the logits are those of regions.
    temperature
        τ, above 0.
    prior_precision
        δ, above 0.
    checkpoint_sha256, plans_sha256
        Hashes of the checkpoint's file and of the plans' content.
    criterion
        Name of what τ and δ were chosen by.
    fitted_against
        Annotations that the fit saw.
    trained_against
        Annotations that the weights were trained on.
    voxels
        Number N of annotated voxels of the training cases, above 0.
    at_edge
        Whether a better choice of τ and δ may lie beyond what was searched.
    record
        Further numbers and names that tell how it was fitted.
    """

    curvature: LastLayerCurvature
    regions: bool
    temperature: float
    prior_precision: float
    checkpoint_sha256: str
    plans_sha256: str
    criterion: str
    fitted_against: Annotations
    trained_against: Annotations
    voxels: float
    at_edge: bool = False
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def effective_voxels(self) -> float:
        """τ N."""
        return self.temperature * self.voxels

    @cached_property
    def spectrum(self) -> Spectrum:
        """Eigenvalues and eigenvectors of G."""
        return self.curvature.spectrum()

    @property
    def determined_weights(self) -> float:
        """γ, in [0, number of weights]."""
        precisions = self.temperature * self.spectrum.eigenvalues
        return float((precisions / (precisions + self.prior_precision)).sum())

    def notes(self) -> list[str]:
        """What keeps members from being draws from what the training cases say of the weights."""
        notes = []
        if self.fitted_against != self.trained_against:
            notes.append(
                f"the last layer was fitted against {ANNOTATION_NAMES[self.fitted_against]} and trained on "
                f"{ANNOTATION_NAMES[self.trained_against]}: what differs between the two, which is aleatoric, counts "
                "as epistemic"
            )
        weights, determined = self.spectrum.eigenvalues.numel(), self.determined_weights
        if self.effective_voxels < 1 or determined < 1:
            notes.append(
                f"the training cases count as {self.effective_voxels:.2g} effective voxels and determine "
                f"{determined:.2g} of {weights} weights: members are draws from the prior, and their disagreement says "
                "nothing of the data"
                + (
                    "; --fit marginal_likelihood takes the temperature from the training cases"
                    if self.criterion == "nll"
                    else ""
                )
            )
        if self.at_edge:
            notes.append(
                "temperature or prior precision is at the edge of what was searched, and a better one may lie beyond it"
            )
        return notes

    def save(self, fold_folder: Path) -> Path:
        """Write the file of a fold."""
        path = fold_folder / LAPLACE_FILE
        content = {
            "format": _FORMAT,
            "num_logits": self.curvature.num_logits,
            "num_inputs": self.curvature.num_inputs,
            "regions": self.regions,
            "temperature": self.temperature,
            "prior_precision": self.prior_precision,
            "checkpoint_sha256": self.checkpoint_sha256,
            "plans_sha256": self.plans_sha256,
            "criterion": self.criterion,
            "fitted_against": self.fitted_against,
            "trained_against": self.trained_against,
            "voxels": self.voxels,
            "at_edge": self.at_edge,
            "curvature": self.curvature.state(),
            "record": self.record,
        }
        with staged_file(path) as staged:
            torch.save(content, staged)
        return path

    @classmethod
    def load(cls, fold_folder: Path) -> LaplaceFit:
        """Read the file of a fold.

        Raises
        ------
        FileNotFoundError
            If there is none.
        ValueError
            If it is damaged.
        """
        path = fold_folder / LAPLACE_FILE
        content = read_checkpoint(path)
        if content.get("format") != _FORMAT:
            raise ValueError(f"{path} is of format {str(content.get('format'))[:20]} and not {_FORMAT}; {_AGAIN}")
        for key, kind in _KINDS.items():
            if not isinstance(content.get(key), kind) or (kind is int and not content[key] > 0):
                raise ValueError(f"{path}: {key} must be a {getattr(kind, '__name__', kind)}; {_AGAIN}")
        for key in ("fitted_against", "trained_against"):
            if content[key] not in ANNOTATIONS:
                raise ValueError(f"{path}: {key} must be one of {', '.join(ANNOTATIONS)}; {_AGAIN}")
        for key in ("temperature", "prior_precision", "voxels"):
            if not 0 < content[key] < float("inf"):
                raise ValueError(f"{path}: {key} must be positive and finite, got {content[key]}; {_AGAIN}")
        try:
            curvature = LastLayerCurvature.of_state(content["curvature"], content["num_logits"], content["num_inputs"])
        except ValueError as error:
            raise ValueError(f"{path}: curvature: {error}; {_AGAIN}") from error
        return cls(curvature, **{each.name: content[each.name] for each in fields(cls) if each.name != "curvature"})

    def require_origin(self, checkpoint: Path, *, checkpoint_sha256: str, plans_sha256: str) -> None:
        """Raise ``ValueError`` if the fit is of another checkpoint or of other plans."""
        for what, fitted, found in (
            (str(checkpoint), self.checkpoint_sha256, checkpoint_sha256),
            (f"the model's plans.json beside {checkpoint.parent.name}", self.plans_sha256, plans_sha256),
        ):
            if fitted != found:
                raise ValueError(
                    f"{checkpoint.with_name(LAPLACE_FILE)} was fitted to another state of {what} (sha256 "
                    f"{fitted[:12]}…, now {found[:12]}…): {_AGAIN}, or choose the checkpoint that it is of with -chk"
                )
