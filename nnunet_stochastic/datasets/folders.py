"""Where nnU-Net keeps a dataset: nnUNet_raw/DatasetNNN_Name and nnUNet_preprocessed/DatasetNNN_Name."""

from __future__ import annotations

from pathlib import Path

from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

__all__ = ["dataset_folders"]


def dataset_folders(dataset: str) -> tuple[Path, Path]:
    """The raw and the preprocessed folder of a dataset, given its name or number; they may not be there."""
    for variable in (nnUNet_raw, nnUNet_preprocessed):
        if not variable.is_set():
            raise ValueError(f"the environment variable {variable.env_var_name} is not set; set it as for nnU-Net")
    try:
        name = maybe_convert_to_dataset_name(dataset)
    except RuntimeError as error:  # nnU-Net's own message: no such dataset, or several
        raise ValueError(str(error)) from error
    return Path(nnUNet_raw) / name, Path(nnUNet_preprocessed) / name
