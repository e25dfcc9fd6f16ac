"""The preprocessed training and validation cases of a trained fold, as nnU-Net keeps them.

nnUNet_preprocessed/DATASET/splits_final.json              which cases
nnUNet_preprocessed/DATASET/DATA_IDENTIFIER/case.b2nd …    images on the network's grid, and their labels
nnUNet_preprocessed/DATASET/DATA_IDENTIFIER_raters/        the labels of several raters, where there are any
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor

from nnunet_stochastic.annotations import AnnotationChoice, Annotations
from nnunet_stochastic.fitting.fold_annotations import raters_to_fit_against, trained_annotations
from nnunet_stochastic.inference.fold_data import validated_cases
from nnunet_stochastic.inference.model import Checkpoint, Model
from nnunet_stochastic.io.names import few
from nnunet_stochastic.io.schemas import PlansJson, Splits
from nnunet_stochastic.io.text import read_json
from nnunet_stochastic.training.raters import RaterFolder

__all__ = ["FoldCases", "GridCase", "find_fold_cases"]

_ALL = "all"
#: Keys of a configuration that decide what a preprocessed image is.
_PREPROCESSING = (
    *("data_identifier", "preprocessor_name", "spacing", "normalization_schemes", "use_mask_for_norm"),
    *("resampling_fn_data", "resampling_fn_data_kwargs"),
)


@dataclass(frozen=True)
class GridCase:
    """A preprocessed case.

    Parameters
    ----------
    name
        Name of the case.
    image
        What the network sees, (channels, *S), float32.
    labels
        Label map of each annotation, (A, *S), int16; A is 1 or the number of raters.
    """

    name: str
    image: Tensor
    labels: np.ndarray


@dataclass(frozen=True)
class FoldCases:
    """The cases of a fold.

    Parameters
    ----------
    model
        Model of the fold.
    folder
        Folder of the preprocessed cases.
    training, validation
        Names of the cases.
    trained_against
        Annotations that the fold was trained on.
    raters
        The raters' masks to fit against; ``None``: labelsTr.
    """

    model: Model
    folder: Path
    training: tuple[str, ...]
    validation: tuple[str, ...]
    trained_against: Annotations
    raters: RaterFolder | None

    @property
    def fitted_against(self) -> Annotations:
        """Annotations that ``load`` returns."""
        return "labels" if self.raters is None else "raters"

    @property
    def num_annotations(self) -> int:
        """Number A of annotations of each case."""
        return 1 if self.raters is None else self.raters.num_raters

    def load(self, name: str) -> GridCase:
        """Read a case."""
        model = self.model
        dataset_class = infer_dataset_class(str(self.folder))
        dataset = dataset_class(str(self.folder), [name], folder_with_segs_from_previous_stage=self._previous_stages())
        try:
            data, labels, previous, _ = dataset.load_case(name)
            image = np.asarray(data[:], dtype=np.float32)
            annotations = [np.asarray(labels[:])[0]]
            stage = None if previous is None else np.asarray(previous[:])
        except Exception as error:  # of blosc2, NumPy and pickle, none of which names the case
            raise OSError(
                f"{self.folder}: case {name} cannot be read: {error}; preprocess the dataset again"
            ) from error
        if self.raters is not None:
            loaded = (self.raters.load(name, rater)[0] for rater in range(self.raters.num_raters))
            annotations = [np.asarray(mask[:])[0] for mask in loaded]
        for annotation in annotations:
            if annotation.shape != image.shape[1:]:
                raise ValueError(
                    f"{name}: labels have shape {annotation.shape} and the image {image.shape[1:]} (z, y, x): "
                    "preprocess the dataset, or its raters, again"
                )
        if stage is not None:
            foreground = model.label_manager.foreground_labels
            stage = convert_labelmap_to_one_hot(stage.reshape(image.shape[1:]), foreground, image.dtype)
            image = np.vstack((image, stage))
        # nnU-Net marks with -1 what lies outside of the image's nonzero region, and trains on it as background.
        stacked = np.maximum(np.stack(annotations).astype(np.int16), 0)
        return GridCase(name, torch.from_numpy(np.ascontiguousarray(image)), stacked)

    def _previous_stages(self) -> str | None:
        model = self.model
        stage = model.configuration_manager.previous_stage_name
        if stage is None:
            return None
        plans = model.plans_manager.plans_name
        folder = model.folder.parent / f"{model.trainer_name}__{plans}__{stage}"
        folder = folder / "predicted_next_stage" / model.configuration_name
        if not folder.is_dir():
            raise FileNotFoundError(
                f"there is no folder {folder} with what {stage} predicted for the training cases: train that stage"
            )
        return str(folder)


def find_fold_cases(model: Model, checkpoint: Checkpoint, *, fit_against: AnnotationChoice = "trained") -> FoldCases:
    """The cases of the fold of a checkpoint.

    Parameters
    ----------
    model
        Model of the fold.
    checkpoint
        Trained weights of the fold.
    fit_against
        Annotations that the cases are to have, see ``fold_annotations``.

    Raises
    ------
    FileNotFoundError
        If the preprocessed dataset is not there, or cases of it are missing.
    ValueError
        If it was preprocessed by other plans than the model's, the splits do not have the fold, they were replaced
        after the training, or raters' masks are needed and missing.
    """
    if not nnUNet_preprocessed.is_set():
        raise ValueError(
            f"the environment variable {nnUNet_preprocessed.env_var_name} is not set; set it as for nnU-Net"
        )
    dataset = Path(str(nnUNet_preprocessed)) / model.plans_manager.dataset_name
    folder = dataset / model.configuration_manager.data_identifier
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder {folder}: the training cases are needed as they were preprocessed for the training, "
            f"nnUNetv2_preprocess -d {model.plans_manager.dataset_name} -plans_name {model.plans_manager.plans_name}"
        )
    _require_same_preprocessing(model, dataset / f"{model.plans_manager.plans_name}.json")
    there = set(infer_dataset_class(str(folder)).get_identifiers(str(folder)))
    training, validation = _split(dataset / "splits_final.json", checkpoint, sorted(there))
    _require_split_of_training(
        dataset / "splits_final.json", checkpoint, validation, file_ending=model.dataset_json["file_ending"]
    )
    if missing := sorted({*training, *validation} - there):
        raise FileNotFoundError(f"{folder} lacks {len(missing)} cases of {checkpoint.name}: {', '.join(missing[:10])}")
    if not training:
        raise ValueError(f"{dataset / 'splits_final.json'}: {checkpoint.name} has no training cases")
    trained_against = trained_annotations(model, checkpoint)
    raters = raters_to_fit_against(
        model, dataset, (*training, *validation), fit_against=fit_against, trained_against=trained_against
    )
    return FoldCases(model, folder, training, validation, trained_against, raters)


def _split(file: Path, checkpoint: Checkpoint, there: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    fold = checkpoint.name.removeprefix("fold_")
    if fold == _ALL:
        return tuple(there), ()
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is missing, which says on which cases {checkpoint.name} was trained: restore it"
        )
    splits = read_json(file, Splits, remedy='restore it, a list of {"train": …, "val": …}')
    if not fold.isdecimal() or int(fold) >= len(splits):
        raise ValueError(
            f"{file} has the folds 0 to {len(splits) - 1} and not {checkpoint.name}: restore the splits of its training"
        )
    split = splits[int(fold)]
    return tuple(sorted(split["train"])), tuple(sorted(split["val"]))


def _require_split_of_training(
    file: Path, checkpoint: Checkpoint, validation: Sequence[str], *, file_ending: str
) -> None:
    """Raise where nnU-Net's closing validation was of other cases: on those trained on, the choice would be wrong."""
    validated = validated_cases(checkpoint.folder, file_ending)
    if checkpoint.name == f"fold_{_ALL}" or validated is None or validated == set(validation):
        return
    differing = few(sorted(validated ^ set(validation)))
    raise ValueError(
        f"{file} is not that of the training of {checkpoint.name}, which was validated on other cases "
        f"({checkpoint.folder / 'validation' / 'summary.json'}; in one of the two: {differing}): restore the splits of "
        "its training"
    )


def _require_same_preprocessing(model: Model, file: Path) -> None:
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing, which says how the training cases were preprocessed: restore it")
    plans = PlansManager(read_json(file, PlansJson))
    if model.configuration_name not in plans.available_configurations:
        raise ValueError(f"{file} has no configuration {model.configuration_name}: restore the plans of the training")
    was, now = (
        {
            **{
                key: manager.get_configuration(model.configuration_name).configuration.get(key)
                for key in _PREPROCESSING
            },
            "transpose_forward": manager.transpose_forward,
            "foreground_intensity_properties_per_channel": manager.foreground_intensity_properties_per_channel,
        }
        for manager in (model.plans_manager, plans)
    )
    if different := [key for key in was if was[key] != now[key]]:
        raise ValueError(
            f"{file} and {model.folder / 'plans.json'} differ in {', '.join(different)}: the preprocessed cases are "
            "not those of the training; restore its plans and preprocess the dataset again"
        )
