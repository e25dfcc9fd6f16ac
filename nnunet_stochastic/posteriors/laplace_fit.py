"""What a fit of the last-layer Laplace approximation leaves: ``fold_X/laplace.pth``, plain data.

The curvature G of the trained weights, a temperature τ and a prior precision δ (see ``laplace``), the hashes of the
checkpoint and the plans that they are of, and a record of how they came about.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from nnunet_stochastic.checkpoints import read_checkpoint
from nnunet_stochastic.io.staging import staged_file
from nnunet_stochastic.posteriors.last_layer_curvature import LastLayerCurvature

__all__ = ["LAPLACE_FILE", "LaplaceFit"]

#: In the folder of a fold, beside the checkpoint.
LAPLACE_FILE = "laplace.pth"
#: What reads a file of another format would read it wrongly.
_FORMAT = 1
_AGAIN = "fit it again with nnunet_stochastic_fit_laplace --overwrite"
_KINDS: dict[str, type | tuple[type, ...]] = {
    "num_logits": int,
    "num_inputs": int,
    "regions": bool,
    "temperature": float,
    "prior_precision": float,
    "checkpoint_sha256": str,
    "plans_sha256": str,
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
    record
        Numbers and names that tell how it was fitted.
    """

    curvature: LastLayerCurvature
    regions: bool
    temperature: float
    prior_precision: float
    checkpoint_sha256: str
    plans_sha256: str
    record: dict[str, Any] = field(default_factory=dict)

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
        for key in ("temperature", "prior_precision"):
            if not 0 < content[key] < float("inf"):
                raise ValueError(f"{path}: {key} must be positive and finite, got {content[key]}; {_AGAIN}")
        try:
            curvature = LastLayerCurvature.of_state(content["curvature"], content["num_logits"], content["num_inputs"])
        except ValueError as error:
            raise ValueError(f"{path}: curvature: {error}; {_AGAIN}") from error
        names = ("regions", "temperature", "prior_precision", "checkpoint_sha256", "plans_sha256", "record")
        return cls(curvature, **{name: content[name] for name in names})

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
