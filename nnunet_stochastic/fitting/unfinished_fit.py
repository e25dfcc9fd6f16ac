"""What a fit has so far: ``fold_X/laplace_unfinished.pth``, from which an interrupted one goes on to the same result.

It is written anew after each case, whole or not at all, and removed when the fit is complete. One of other settings,
another checkpoint for instance, is not gone on with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from nnunet_stochastic.checkpoints import read_checkpoint
from nnunet_stochastic.fitting.curvature_pass import CaseSums
from nnunet_stochastic.io.staging import remove_leftovers, staged_file
from nnunet_stochastic.posteriors.last_layer_curvature import LastLayerCurvature, curvature_for

__all__ = ["UNFINISHED_FILE", "UnfinishedFit"]

UNFINISHED_FILE = "laplace_unfinished.pth"


class UnfinishedFit:
    """The sums of a fit.

    Parameters
    ----------
    fold_folder
        Folder of the fold.
    settings
        All that decides the result, as plain data.
    num_logits, num_inputs
        Size of the curvature.
    """

    def __init__(self, fold_folder: Path, settings: dict[str, Any], *, num_logits: int, num_inputs: int) -> None:
        self._path, self._settings = fold_folder / UNFINISHED_FILE, settings
        self.curvature = curvature_for(num_logits, num_inputs)
        """Of the training cases so far."""
        self.training: dict[str, dict[str, float]] = {}
        """Sums of each training case so far, see ``CaseSums``."""
        self.validation: dict[str, dict[str, Any] | None] = {}
        """Points of each validation case so far; ``None`` where no voxel is annotated."""
        if (content := self._earlier()) is not None:
            self.curvature = LastLayerCurvature.of_state(content["curvature"], num_logits, num_inputs)
            self.training, self.validation = content["training"], content["validation"]

    def add_training(self, name: str, sums: CaseSums) -> None:
        """A training case has been added to the curvature."""
        self.training[name] = dict(sums)
        self._save()

    def add_validation(self, name: str, points: dict[str, Any] | None) -> None:
        """A validation case has its points."""
        self.validation[name] = points
        self._save()

    def remove(self) -> None:
        """The fit is complete."""
        self._path.unlink(missing_ok=True)
        remove_leftovers(self._path.parent, [UNFINISHED_FILE])

    def _earlier(self) -> dict[str, Any] | None:
        if not self._path.is_file():
            return None
        try:
            content = read_checkpoint(self._path)
        except ValueError:  # cut short by something other than this command: begin anew
            return None
        return content if content.get("settings") == self._settings else None

    def _save(self) -> None:
        with staged_file(self._path) as staged:
            torch.save(
                {
                    "settings": self._settings,
                    "curvature": self.curvature.state(),
                    "training": self.training,
                    "validation": self.validation,
                },
                staged,
            )
