"""A trained model as a zip file: what nnU-Net exports, and what members of this package's models are made of besides.

nnU-Net writes of each fold its checkpoints and what tells of the training. A posterior over the weights may need more
(SWAG: ``swag.pth`` and its snapshots); it is appended under the same paths, so that nnU-Net's installation of the file
puts everything back to where it was.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

from nnunetv2.model_sharing.model_export import export_pretrained_model
from nnunetv2.paths import nnUNet_results
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

from nnunet_stochastic.epistemic import EPISTEMIC_METHODS
from nnunet_stochastic.inference.members import require_files_of_training
from nnunet_stochastic.inference.model import load_model
from nnunet_stochastic.io.staging import staged_file
from nnunet_stochastic.posteriors import posterior_class

__all__ = ["export_model"]

#: What nnU-Net's export takes for granted, in the model's folder and in that of each fold.
_OF_MODEL = ("plans.json", "dataset.json", "dataset_fingerprint.json")
_OF_FOLD = ("progress.png", "validation/summary.json")


def export_model(
    dataset: str,
    output: Path,
    *,
    trainer: str = "nnUNetTrainer",
    plans_name: str = "nnUNetPlans",
    configurations: Sequence[str],
    folds: Sequence[int | str],
    checkpoints: Sequence[str] = ("checkpoint_final.pth",),
    validation_predictions: bool = False,
    trust_checkpoint: bool = False,
) -> list[Path]:
    """Write a zip file that ``nnUNetv2_install_pretrained_model_from_zip`` installs.

    Parameters
    ----------
    dataset
        Name or number of the dataset.
    output
        Zip file.
    trainer, plans_name, configurations
        Names that the model folders in nnUNet_results are found by.
    folds
        Folds to export.
    checkpoints
        Names of the checkpoints of each fold.
    validation_predictions
        Whether nnU-Net's predictions of the validation cases are exported, too.
    trust_checkpoint
        Whether to load checkpoints, too, that hold arbitrary Python objects.

    Returns
    -------
    list
        What was added to nnU-Net's export, relative to nnUNet_results.

    Raises
    ------
    FileNotFoundError
        If a file is missing that the export needs.
    ValueError
        If files that belong together are not of one training, or an environment variable is not set.
    """
    if not nnUNet_results.is_set():
        raise ValueError(f"the environment variable {nnUNet_results.env_var_name} is not set; set it as for nnU-Net")
    try:
        name = maybe_convert_to_dataset_name(dataset)
    except RuntimeError as error:  # nnU-Net's own message: no such dataset, or several
        raise ValueError(str(error)) from error
    if output.is_dir() or not output.parent.is_dir():
        raise FileNotFoundError(f"-o {output} must be a file in a folder that is there")
    results = Path(str(nnUNet_results))
    added: list[Path] = []
    for configuration in configurations:
        folder = results / name / f"{trainer}__{plans_name}__{configuration}"
        for checkpoint in checkpoints:
            model = load_model(
                folder,
                folds=folds,
                checkpoint_name=checkpoint,
                trainer_name=trainer,
                configuration_name=configuration,
                trust_checkpoint=trust_checkpoint,
            )
        _require_files_of_nnunet(folder, [fold.folder for fold in model.checkpoints])
        require_files_of_training(model)
        for method in EPISTEMIC_METHODS.values():
            posterior = posterior_class(method)
            for fold in model.checkpoints:
                if posterior.files and posterior.missing(method, fold.folder, model.network) is None:
                    added += posterior.files_of_fold(fold.folder)
    added = [path.relative_to(results) for path in dict.fromkeys(added)]
    with staged_file(output) as staged:
        export_pretrained_model(
            name,
            str(staged),
            configurations=tuple(configurations),
            trainer=trainer,
            plans_identifier=plans_name,
            folds=tuple(folds),
            save_checkpoints=tuple(checkpoints),
            export_crossval_predictions=validation_predictions,
        )
        with zipfile.ZipFile(staged, "a") as archive:
            for path in added:
                archive.write(results / path, path)  # weights hardly become smaller
    return added


def _require_files_of_nnunet(folder: Path, fold_folders: Sequence[Path]) -> None:
    needed = [folder / name for name in _OF_MODEL] + [fold / name for fold in fold_folders for name in _OF_FOLD]
    if missing := [str(path) for path in needed if not path.is_file()]:
        raise FileNotFoundError(
            f"nnU-Net's export needs {', '.join(missing)}: let the training end with its validation, nnUNetv2_train … "
            "--val, or put them back"
        )
