"""The members of a prediction: every set of weights over which the epistemic uncertainty is an average.

    none                one set of weights, E = 1
    ensemble            the trained folds
    dropout             ``num_members`` sets of dropout masks per fold
    swag, swag_diag     ``num_members`` draws from the Gaussian over each fold's weights

A member is one network for all tiles, views and images: its masks or weights are drawn from (seed, member) alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from nnunet_stochastic.inference.model import Checkpoint, Model, load_weights
from nnunet_stochastic.inference.seeds import stream_generator
from nnunet_stochastic.posteriors import (
    SWAG_FILE,
    SwagPosterior,
    clear_dropout_masks,
    fix_dropout_masks,
    has_channel_dropout,
)
from nnunet_stochastic.posteriors.snapshots import snapshot_path

__all__ = ["EpistemicMethod", "Member", "choose_method", "members_of"]

EpistemicMethod = Literal["none", "ensemble", "dropout", "swag", "swag_diag"]


@dataclass(frozen=True)
class Member:
    """One set of weights.

    Parameters
    ----------
    name
        ``fold_0``, ``fold_0_dropout_3``: unique among the members, and the key of its noise.
    checkpoint
        The fold it is of.
    posterior
        Of the fold's weights, for SWAG.
    method
        How the member comes from its fold.
    seed
        Of masks and weights.
    scale
        Of SWAG's covariance; ``None`` is the method's own.
    """

    name: str
    checkpoint: Checkpoint
    method: EpistemicMethod = "ensemble"
    posterior: SwagPosterior | None = None
    seed: int = 0
    scale: float | None = None

    def activate(self, model: Model) -> None:
        """Turn the model's network into this member, the same on every device."""
        weights = self.checkpoint.path if self.posterior is None else (self.checkpoint.path, *self._draw, self.scale)
        model.hold(weights, make=lambda: self._make_weights(model))
        if self.method == "dropout":
            fix_dropout_masks(model.network, stream_generator(*self._draw))
        elif has_channel_dropout(model.network):
            clear_dropout_masks(model.network)

    def _make_weights(self, model: Model) -> None:
        load_weights(model, self.checkpoint)
        if self.posterior is not None:
            generator = stream_generator(*self._draw)
            self.posterior.draw_into(model.network, generator, diagonal=self.method == "swag_diag", scale=self.scale)

    @property
    def _draw(self) -> tuple[str, int, str]:
        """Key of the random numbers that make the member of its fold."""
        return self.method, self.seed, self.name


def choose_method(model: Model, requested: Literal["auto"] | EpistemicMethod) -> EpistemicMethod:
    """The method of a prediction, checked against what the model has.

    ``auto`` takes the ensemble if there are several folds, else dropout or SWAG if the model was trained for it, else
    none.

    Raises
    ------
    ValueError
        If the model does not have what was asked for.
    """
    folds = [checkpoint.name for checkpoint in model.checkpoints]
    without_swag = [checkpoint.name for checkpoint in model.checkpoints if not _has_swag(checkpoint)]
    if requested == "auto":
        if len(folds) > 1:
            return "ensemble"
        if has_channel_dropout(model.network):
            return "dropout"
        return "none" if without_swag else "swag"
    if requested not in get_args(EpistemicMethod):
        raise ValueError(f"epistemic must be one of auto, {', '.join(get_args(EpistemicMethod))}, got {requested!r}")
    if requested == "none" and len(folds) > 1:
        raise ValueError(f"without an epistemic method there is one member, got {len(folds)} folds: choose one with -f")
    if requested == "ensemble" and len(folds) == 1:
        raise ValueError(
            "an ensemble needs several trained folds, for instance -f 0 1 2 3 4, and got one. "
            "nnunet_stochastic_ensemble_splits makes the folds random initialisations of the same data"
        )
    if requested == "dropout" and not has_channel_dropout(model.network):
        raise ValueError(
            f"{model.trainer_name} has no dropout to keep on: train a trainer such as nnUNetTrainerMoBDropout"
        )
    if requested in ("swag", "swag_diag") and without_swag:
        raise ValueError(
            f"{model.trainer_name} left no SWAG statistics ({SWAG_FILE}) in {' and '.join(without_swag)} of "
            f"{model.folder}: train a trainer such as nnUNetTrainerMoBSWAG to its end"
        )
    return requested


def members_of(
    model: Model, method: EpistemicMethod, *, num_members: int, seed: int, swag_scale: float | None = None
) -> tuple[Member, ...]:
    """The members of a prediction, those of a fold together.

    Parameters
    ----------
    model
        Its checkpoints are the folds.
    method
        As ``choose_method`` returns it.
    num_members
        Members of each fold, for dropout and SWAG.
    seed
        Of masks and weights.
    swag_scale
        Scale of SWAG's covariance; ``None`` is the method's own.
    """
    if method in ("none", "ensemble"):
        return tuple(Member(checkpoint.name, checkpoint, method) for checkpoint in model.checkpoints)
    members = []
    for checkpoint in model.checkpoints:
        posterior = None if method == "dropout" else SwagPosterior.load(checkpoint.path.parent)
        members += [
            Member(f"{checkpoint.name}_{method}_{index}", checkpoint, method, posterior, seed, swag_scale)
            for index in range(num_members)
        ]
    return tuple(members)


def check_members_differ(members: Sequence[Member], outputs: Sequence[torch.Tensor]) -> None:
    """Raise if two members predicted the same.

    Parameters
    ----------
    members
        The members.
    outputs
        Numbers of each member that any change of its weights would change, in tensors of one shape.
    """
    for index, output in enumerate(outputs):
        for other in range(index):
            if torch.equal(output, outputs[other]):
                names = f"members {members[other].name} and {members[index].name} predict the same"
                if members[index].method == "dropout":
                    raise ValueError(f"{names}: dropout is inactive in this network")
                raise ValueError(f"{names}: they hold the same weights, and the epistemic uncertainty would be too low")


def _has_swag(checkpoint: Checkpoint) -> bool:
    folder = checkpoint.path.parent
    # Snapshots without statistics are an unfinished training, which loading reports.
    return (folder / SWAG_FILE).is_file() or snapshot_path(folder, epoch=0).parent.is_dir()
