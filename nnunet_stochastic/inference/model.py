"""A trained model folder of nnU-Net: one network and the files that hold its weights, one per fold."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunetv2.utilities.label_handling.label_handling import LabelManager, determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_stochastic.checkpoints import read_checkpoint
from nnunet_stochastic.inference.weight_cache import WeightCache
from nnunet_stochastic.io.hashing import file_sha256
from nnunet_stochastic.io.schemas import PlansJson, read_dataset_json
from nnunet_stochastic.io.text import read_json
from nnunet_stochastic.networks import DistributionNetwork
from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.plans import find_label_manager, find_reader_writer, read_configuration
from nnunet_stochastic.posteriors import WeightPosterior
from nnunet_stochastic.training.trainer_class import find_trainer_class

__all__ = ["Checkpoint", "Model", "load_model", "load_weights", "read_header"]


@dataclass(frozen=True)
class Checkpoint:
    """The trained weights of a fold."""

    name: str  # fold_0, fold_all
    path: Path
    sha256: str

    @property
    def folder(self) -> Path:
        """The fold's folder, with all that its training left."""
        return self.path.parent


@dataclass
class Model:
    """What a model folder says, with the network built and the first fold's weights in it."""

    folder: Path
    plans_manager: PlansManager
    configuration_manager: ConfigurationManager
    configuration_name: str
    dataset_json: dict[str, Any]
    label_manager: LabelManager
    trainer_name: str
    mirror_axes: tuple[int, ...]
    network: nn.Module
    checkpoints: tuple[Checkpoint, ...]
    trust_checkpoint: bool = False
    #: Names of the epistemic methods whose files the trainer leaves beside its checkpoints.
    leaves_files_for: tuple[str, ...] = ()
    #: Whether the trainer draws raters' masks where a dataset has them.
    train_on_raters: bool = False
    #: What the network's weights are, as ``set_weights`` was told; ``None`` where that is not known.
    current_weights: Hashable = None
    #: What has turned the network into a member.
    active_posterior: WeightPosterior | None = None
    _cache: WeightCache = field(default_factory=WeightCache)

    def deactivate_posterior(self) -> None:
        """Undo what made the network a member, weights apart."""
        if self.active_posterior is not None:
            self.active_posterior.deactivate(self.network)
            self.active_posterior = None

    def set_weights(self, weights: Hashable, make: Callable[[], None]) -> None:
        """Let the network have certain weights.

        Parameters
        ----------
        weights
            Key of the weights, equal for equal weights.
        make
            Function that puts them into the network. It is not called if they are there, or have been made twice
            before.
        """
        if self.current_weights == weights:
            return
        self.current_weights = None  # not known, should what follows fail
        if not self._cache.restore(weights, self.network):
            make()
            self._cache.note(weights, self.network)
        self.current_weights = weights

    @property
    def has_samples(self) -> bool:
        """Whether the network predicts a distribution over logits."""
        return isinstance(self.network, DistributionNetwork) and self.network.has_samples

    @property
    def gaussian(self) -> bool:
        """Whether that distribution is Gaussian."""
        return isinstance(self.network, DistributionNetwork) and self.network.has_samples and self.network.is_gaussian

    @property
    def space(self) -> OutcomeSpace:
        """What the network's outputs mean."""
        return OutcomeSpace(self.label_manager.num_segmentation_heads, regions=self.label_manager.has_regions)

    @property
    def num_image_channels(self) -> int:
        """Channels of the image, without those of a previous stage's segmentation."""
        return len(self.dataset_json.get("channel_names") or self.dataset_json["modality"])


def load_model(
    folder: str | Path,
    *,
    folds: Sequence[int | str],
    checkpoint_name: str = "checkpoint_final.pth",
    trainer_name: str | None = None,
    configuration_name: str | None = None,
    trust_checkpoint: bool = False,
) -> Model:
    """Read a model folder, as nnUNetv2_train leaves it.

    Parameters
    ----------
    folder
        Folder TRAINER__PLANS__CONFIGURATION, with plans.json, dataset.json and fold_X folders.
    folds
        Folds to use.
    checkpoint_name
        Name of the checkpoint in each fold's folder.
    trainer_name, configuration_name
        Names that the checkpoints must have; ``None`` accepts any, but the same in all of them.
    trust_checkpoint
        Whether to load checkpoints, too, that hold arbitrary Python objects, and plans that name networks of other
        packages: both could run code.
    """
    folder = Path(folder)
    paths = _checkpoint_paths(folder, folds, checkpoint_name)
    plans_file = folder / "plans.json"
    plans_manager = PlansManager(read_json(plans_file, PlansJson))
    dataset_json = read_dataset_json(folder / "dataset.json")
    find_reader_writer(f"{plans_file}: image_reader_writer", plans_manager.plans["image_reader_writer"])
    label_manager_name = plans_manager.plans.get("label_manager", "LabelManager")
    find_label_manager(f"{plans_file}: label_manager", label_manager_name, trust=trust_checkpoint)
    label_manager = plans_manager.get_label_manager(dataset_json)
    OutcomeSpace(label_manager.num_segmentation_heads, regions=label_manager.has_regions)

    headers = {}
    for path in paths:
        headers[path] = read_header(path, trust=trust_checkpoint)
    expected = headers[paths[0]]
    for path, header in headers.items():
        if header != expected:
            raise ValueError(
                f"{path} and {paths[0]} cannot be members of one ensemble: (trainer, configuration, mirrored axes) is "
                f"{header} and {expected}"
            )
    found_trainer, found_configuration, mirror_axes = expected
    if trainer_name not in (None, found_trainer):
        raise ValueError(f"{paths[0]} was written by {found_trainer}, not by {trainer_name}: check -tr and the folder")
    if configuration_name not in (None, found_configuration):
        raise ValueError(
            f"{paths[0]} is of {found_configuration}, not of {configuration_name}: check -c and the folder"
        )

    configuration_manager = read_configuration(plans_file, plans_manager, found_configuration, trust=trust_checkpoint)
    trainer_class = find_trainer_class(found_trainer)
    network = _build_network(trainer_class, plans_manager, configuration_manager, dataset_json, label_manager)
    model = Model(
        folder=folder,
        plans_manager=plans_manager,
        configuration_manager=configuration_manager,
        configuration_name=found_configuration,
        dataset_json=dataset_json,
        label_manager=label_manager,
        trainer_name=found_trainer,
        mirror_axes=mirror_axes,
        network=network.eval(),
        checkpoints=tuple(Checkpoint(path.parent.name, path, file_sha256(path)) for path in paths),
        trust_checkpoint=trust_checkpoint,
        leaves_files_for=tuple(getattr(trainer_class, "LEAVES_FILES_FOR", ())),
        train_on_raters=bool(getattr(trainer_class, "train_on_raters", False)),
    )
    load_weights(model, model.checkpoints[0])
    return model


def load_weights(model: Model, checkpoint: Checkpoint) -> None:
    """Put a fold's weights into the model's network, in place."""
    model.current_weights = None
    # The file is mapped, not read: nothing of it stays in memory, however many folds there are.
    weights = read_checkpoint(checkpoint.path, trust=model.trust_checkpoint)["network_weights"]
    try:
        model.network.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(
            f"the weights in {checkpoint.path} do not fit the network that {model.trainer_name} builds now; was the "
            f"trainer changed since it was trained? {error}"
        ) from error


def _checkpoint_paths(folder: Path, folds: Sequence[int | str], checkpoint_name: str) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no model folder {folder}: check -d, -tr, -p, -c and nnUNet_results, or -m")
    for name in ("plans.json", "dataset.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is no model folder of nnU-Net: {name} is missing")
    if not folds or len(set(map(str, folds))) != len(folds):
        raise ValueError(f"folds must be at least one and all different, got {list(folds)}")
    paths = [folder / f"fold_{fold}" / checkpoint_name for fold in folds]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        trained = sorted(path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{checkpoint_name}"))
        hint = (
            f"folds with {checkpoint_name}: {' '.join(trained)}, choose from them with -f"
            if trained
            else (f"no fold has {checkpoint_name}: check -chk, or train first")
        )
        raise FileNotFoundError(f"missing checkpoints: {', '.join(missing)}; {hint}")
    return paths


def read_header(path: Path, *, trust: bool) -> tuple[str, str, tuple[int, ...]]:
    """Trainer, configuration and mirrored axes of a checkpoint; ``ValueError`` for what is none of nnU-Net's."""
    checkpoint = read_checkpoint(path, trust=trust)
    lacking = [key for key in ("trainer_name", "init_args", "network_weights") if key not in checkpoint]
    if lacking:
        raise ValueError(f"{path} is no checkpoint of nnU-Net: it has no {', '.join(lacking)}")
    trainer, arguments = checkpoint["trainer_name"], checkpoint["init_args"]
    configuration = arguments.get("configuration") if isinstance(arguments, dict) else None
    axes = checkpoint.get("inference_allowed_mirroring_axes") or ()
    if not (isinstance(trainer, str) and isinstance(configuration, str)):
        raise ValueError(f"{path} is no checkpoint of nnU-Net: trainer_name and init_args.configuration must be texts")
    if not (isinstance(axes, list | tuple) and set(axes) <= {0, 1, 2}):
        raise ValueError(f"{path}: inference_allowed_mirroring_axes must be axes 0 to 2, got {str(axes)[:60]}")
    return trainer, configuration, tuple(axes)


def _build_network(
    trainer_class: Any,
    plans_manager: PlansManager,
    configuration_manager: ConfigurationManager,
    dataset_json: dict[str, Any],
    label_manager: LabelManager,
) -> nn.Module:
    build = trainer_class.build_network_architecture
    if "plans_manager" in inspect.signature(build).parameters:
        architecture: tuple[Any, ...] = (plans_manager, configuration_manager)
    else:  # trainers written for nnU-Net before 2.8
        architecture = (
            configuration_manager.network_arch_class_name,
            configuration_manager.network_arch_init_kwargs,
            configuration_manager.network_arch_init_kwargs_req_import,
        )
    try:
        return build(
            *architecture,
            determine_num_input_channels(plans_manager, configuration_manager, dataset_json),
            label_manager.num_segmentation_heads,
            enable_deep_supervision=False,
        )
    except (TypeError, KeyError, IndexError, AssertionError, RuntimeError) as error:
        raise ValueError(
            f"{trainer_class.__name__} cannot build the network that plans.json describes under architecture: "
            f"{str(error) or type(error).__name__}; restore the plans of the training"
        ) from error
