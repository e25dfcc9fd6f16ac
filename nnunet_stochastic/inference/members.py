"""The members of a prediction: every set of weights over which the epistemic uncertainty is an average.

How a member is made of its fold is said by the ``WeightPosterior`` of the epistemic method. A member is one network for
all tiles, views and images: its masks or weights are drawn from (method, seed, member) alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nnunet_stochastic.epistemic import EPISTEMIC_METHODS, NO_METHOD, EpistemicMethod
from nnunet_stochastic.inference.model import Checkpoint, Model, load_weights
from nnunet_stochastic.inference.seeds import stream_generator
from nnunet_stochastic.io.hashing import content_sha256
from nnunet_stochastic.io.names import shown
from nnunet_stochastic.posteriors import LastLayerPosterior, WeightPosterior, posterior_class

__all__ = [
    "AUTO",
    "Member",
    "check_members_differ",
    "choose_method",
    "members_of",
    "require_files_of_training",
    "share_features",
]

#: Takes the first method of the catalogue that it may choose and the model has, else ``none``.
AUTO = "auto"
_WITHOUT = f"--epistemic {NO_METHOD.name} predicts without them, with one member"


@dataclass(frozen=True)
class Member:
    """One set of weights.

    Parameters
    ----------
    name
        Name, such as ``fold_0`` or ``fold_0_dropout_3``: unique among the members, and the key of its noise.
    checkpoint
        Trained weights of its fold.
    posterior
        Distribution over the fold's weights.
    seed
        Seed of what is drawn.
    twin_of
        Name of the member of an antithetic posterior that this one lies opposite; ``None``: of none.
    """

    name: str
    checkpoint: Checkpoint
    posterior: WeightPosterior
    seed: int = 0
    twin_of: str | None = None

    def activate(self, model: Model) -> None:
        """Turn the model's network into this member, the same on every device."""
        model.deactivate_posterior()
        posterior = self.posterior
        draw = (posterior.method.name, self.seed, self.twin_of or self.name)
        if posterior.changes_weights:
            weights = (self.checkpoint.path, *draw, self.twin_of, tuple(posterior.options.items()))
            model.set_weights(weights, make=lambda: self._make_weights(model, draw))
        else:
            model.set_weights(self.checkpoint.path, make=lambda: load_weights(model, self.checkpoint))
            model.active_posterior = posterior  # also if it fails half-way
            self._apply(model, draw)

    def _make_weights(self, model: Model, draw: tuple[str, int, str]) -> None:
        model.set_weights(self.checkpoint.path, make=lambda: load_weights(model, self.checkpoint))
        model.current_weights = None  # what follows changes them, or fails half-way
        self._apply(model, draw)

    def _apply(self, model: Model, draw: tuple[str, int, str]) -> None:
        activate = self.posterior.activate if self.twin_of is None else self.posterior.activate_twin
        activate(model.network, stream_generator(*draw))


def choose_method(model: Model, requested: str) -> EpistemicMethod:
    """The method of a prediction, checked against what the model has.

    Parameters
    ----------
    model
        The model.
    requested
        Name of a method, or ``AUTO``.

    Raises
    ------
    ValueError
        If the model does not have what was asked for, or by ``AUTO`` what it was trained for.
    """
    if requested == AUTO:
        for method in (method for method in EPISTEMIC_METHODS.values() if method.chosen_by_auto):
            if (obstacle := _obstacle(model, method)) is None:
                return method
            if method.name in model.leaves_files_for:
                raise ValueError(f"{obstacle}; {_WITHOUT}")
        return NO_METHOD
    if requested not in EPISTEMIC_METHODS:
        raise ValueError(f"epistemic must be one of {AUTO}, {', '.join(EPISTEMIC_METHODS)}, got {shown(requested)}")
    method = EPISTEMIC_METHODS[requested]
    if obstacle := _obstacle(model, method):
        raise ValueError(obstacle)
    return method


def require_files_of_training(model: Model) -> None:
    """Raise ``ValueError`` if a file is missing that the model's training leaves beside its checkpoints."""
    for method in (EPISTEMIC_METHODS[name] for name in model.leaves_files_for):
        if obstacle := _obstacle(model, method):
            raise ValueError(obstacle)


def _obstacle(model: Model, method: EpistemicMethod) -> str | None:
    """Why a model cannot be predicted with a method."""
    num_folds = len(model.checkpoints)
    if method.most_folds is not None and num_folds > method.most_folds:
        return f"without an epistemic method there is one member, got {num_folds} folds: choose one with -f"
    if num_folds < method.least_folds:
        return (
            "an ensemble needs several trained folds, for instance -f 0 1 2 3 4, and got one; "
            "nnunet_stochastic_ensemble_splits makes the folds random initialisations of the same data"
        )
    posterior = posterior_class(method)
    lacking = {
        checkpoint.name: missing
        for checkpoint in model.checkpoints
        if (missing := posterior.missing(method, checkpoint.folder, model.network)) is not None
    }
    if not lacking:
        return None
    missing = next(iter(lacking.values()))
    return f"{model.trainer_name} {missing.what} in {' and '.join(lacking)} of {model.folder}: {missing.remedy}"


def members_of(
    model: Model,
    method: EpistemicMethod,
    *,
    seed: int,
    options: Mapping[str, Any] | None = None,
    requested: str | None = None,
) -> tuple[Member, ...]:
    """The members of a prediction, those of a fold together.

    Parameters
    ----------
    model
        Model whose checkpoints are the folds.
    method
        Method, as ``choose_method`` returns it.
    seed
        Seed of masks and weights.
    options
        Values of the method's options by name; the default of those that are not given.
    requested
        What the user asked for, ``AUTO`` for instance; ``None``: this method.

    Raises
    ------
    ValueError
        If a posterior is of other trained weights than the model's, or its files are damaged.
    FileNotFoundError
        If files of it are missing.
    """
    given = options or {}
    values = {option.name: given.get(option.name, option.default) for option in method.options}
    plans_sha256 = content_sha256(model.plans_manager.plans)
    members = []
    for checkpoint in model.checkpoints:
        try:
            posterior = posterior_class(method)(method, checkpoint.folder, values)
            posterior.require_origin(checkpoint.path, checkpoint_sha256=checkpoint.sha256, plans_sha256=plans_sha256)
        except (ValueError, FileNotFoundError) as error:
            # Whoever did not ask for the method is told how to do without; several folds are no case of it.
            if requested != AUTO or len(model.checkpoints) > 1:
                raise
            kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
            raise kind(f"{error}; {_WITHOUT}") from error
        names = posterior.member_names(checkpoint.name)
        members += [
            Member(
                name,
                checkpoint,
                posterior.of_member(index),
                seed,
                twin_of=names[index - 1] if posterior.antithetic and index % 2 else None,
            )
            for index, name in enumerate(names)
        ]
    return tuple(members)


def share_features(member: Member, other: Member) -> bool:
    """Whether two members differ in their last layer alone, so that one forward pass serves both."""
    return isinstance(member.posterior, LastLayerPosterior) and member.posterior is other.posterior


def check_members_differ(members: Sequence[Member], outputs: Sequence[torch.Tensor]) -> None:
    """Raise ``ValueError`` if two members predicted the same.

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
                reason = members[index].posterior.reason_of_equal_members
                raise ValueError(f"members {members[other].name} and {members[index].name} predict the same: {reason}")
