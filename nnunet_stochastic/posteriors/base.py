"""The contract of every distribution over the weights of a trained fold, of which members are drawn.

    p(θ | training of the fold)  ->  θ_1 … θ_E

A member is one network for all tiles, views and images. How it is made of its fold is here; which folds and members a
prediction has, their names and their random numbers is decided in ``inference.members``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from nnunet_stochastic.epistemic import NUM_MEMBERS, EpistemicMethod
from nnunet_stochastic.networks import DistributionNetwork

__all__ = ["LastLayerPosterior", "Missing", "WeightPosterior", "example_trainer", "posterior_class", "train_for_files"]


@dataclass(frozen=True)
class Missing:
    """Why a trained fold lacks a posterior.

    Parameters
    ----------
    what
        Description of what is the matter, behind the name of the trainer: "has no …".
    remedy
        Advice what to do.
    """

    what: str
    remedy: str


class WeightPosterior(ABC):
    """The posterior of one fold.

    Parameters
    ----------
    method
        Its entry in the catalogue.
    fold_folder
        Folder ``fold_X`` of a model folder, with the checkpoint and what else training left.
    options
        Values of the method's options by name.

    Raises
    ------
    FileNotFoundError
        If a file of the posterior is missing.
    ValueError
        If one is damaged, or they are not of one training.
    """

    #: Files in the fold's folder, beside the checkpoint, that decide what the members are.
    files: ClassVar[tuple[str, ...]] = ()
    #: Whether a member has other weights than the checkpoint. Made weights are kept for the next image.
    changes_weights: ClassVar[bool] = False
    #: Whether members come in pairs whose weights lie opposite each other around the trained ones.
    antithetic: ClassVar[bool] = False
    #: Why two members may predict the same, which is an error.
    reason_of_equal_members: ClassVar[str] = (
        "they hold the same weights, and the epistemic uncertainty would be too low"
    )

    def __init__(self, method: EpistemicMethod, fold_folder: Path, options: Mapping[str, Any]) -> None:
        self.method = method
        self.fold_folder = fold_folder
        self.options = options

    @classmethod
    @abstractmethod
    def missing(cls, method: EpistemicMethod, fold_folder: Path, network: nn.Module) -> Missing | None:
        """Why a trained fold does not have this posterior; ``None`` where it does.

        Parameters
        ----------
        method
            The entry in the catalogue.
        fold_folder
            Folder of the fold, as for the class.
        network
            Network as the fold's trainer builds it.
        """

    @classmethod
    def files_of_fold(cls, fold_folder: Path) -> list[Path]:
        """All files in a fold's folder, beside the checkpoint, that its members are made of."""
        return [fold_folder / name for name in cls.files]

    @classmethod
    def note_of_disuse(cls, method: EpistemicMethod, network: nn.Module) -> str | None:
        """What a record says where a network could have these members and is predicted without; ``None``: nothing."""
        return None

    def settings(self) -> dict[str, Any]:
        """What a record says of the fold's posterior beside the hashes of its files, JSON-serializable."""
        return {}

    def notes(self) -> list[str]:
        """What whoever reads a map of its members should know, a clause each."""
        return []

    def require_origin(  # noqa: B027, most files lie in the folder of their training and are bound to it by that
        self, checkpoint: Path, *, checkpoint_sha256: str, plans_sha256: str
    ) -> None:
        """Raise ``ValueError`` if the posterior was fitted to other trained weights than those it is to vary.

        Parameters
        ----------
        checkpoint
            File of the trained weights.
        checkpoint_sha256
            SHA-256 of that file.
        plans_sha256
            SHA-256 of the content of the model's plans.
        """

    @property
    def num_members(self) -> int:
        """Number of members of the fold, at least 1."""
        return int(self.options[NUM_MEMBERS.name])

    def of_member(self, index: int) -> WeightPosterior:
        """The posterior whose ``activate`` makes the member with this index: the same where members are drawn."""
        return self

    def member_names(self, fold: str) -> list[str]:
        """Names of the fold's members, different for all members of all folds."""
        return [f"{fold}_{self.method.name}_{index}" for index in range(self.num_members)]

    @abstractmethod
    def activate(self, network: nn.Module, generator: torch.Generator) -> None:
        """Turn a network that holds the fold's trained weights into a member, in place.

        Parameters
        ----------
        network
            Network as the fold's trainer builds it, on any device, without wrappers around it.
        generator
            Random numbers of the member, on the CPU: the same seed gives the same member on every device.
        """

    def activate_twin(self, network: nn.Module, generator: torch.Generator) -> None:
        """The same with weights that lie opposite those of ``activate``, of an ``antithetic`` posterior."""
        raise NotImplementedError(f"members of {self.method.name} come one by one")

    def deactivate(self, network: nn.Module) -> None:  # noqa: B027, for nothing but weights there is nothing to undo
        """Undo what ``activate`` changed besides weights, and what one changed that failed."""


class LastLayerPosterior(WeightPosterior):
    """A posterior over the last layer alone: one forward pass up to its features serves all members of the fold.

    ``activate`` sets weight and bias of ``networks.last_layer.last_layer(network)``, which give the logits or their
    mean, and changes nothing else, nor what else a head predicts. It is called at every tile, so it draws a member once
    and keeps it; ``deactivate`` puts the trained weights back.
    """


def example_trainer(method: EpistemicMethod, network: nn.Module) -> str:
    """A trainer of a method to name to whoever has a network without it."""
    return method.example_trainer(has_samples=isinstance(network, DistributionNetwork) and network.has_samples)


def train_for_files(method: EpistemicMethod, network: nn.Module) -> str:
    """Advice where a method's training left no files."""
    return (
        f"train a trainer such as {example_trainer(method, network)} to its end; of a model that came as a zip file, "
        "nnunet_stochastic_export_model takes them along and nnUNetv2_export_model_to_zip leaves them out"
    )


def posterior_class(method: EpistemicMethod) -> type[WeightPosterior]:
    """The class that a method names in the catalogue."""
    module, _, name = method.posterior.partition(":")
    found = getattr(import_module(module), name)
    if not (isinstance(found, type) and issubclass(found, WeightPosterior)):
        raise TypeError(f"{method.posterior}, the posterior of {method.name}, is no WeightPosterior")
    return found
