"""Cases whose images are DICOM series: each is read through an image file of the data set's format.

So arrays, properties and predictions are those of the files that SimpleITK makes of the series, whichever of nnU-Net's
readers the model has.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_stochastic.dicom.folders import series_folders, slice_files
from nnunet_stochastic.dicom.libraries import require_libraries
from nnunet_stochastic.inference.cases import InputCase
from nnunet_stochastic.io.hashing import content_sha256, file_sha256
from nnunet_stochastic.io.images import ImageReader, read_image
from nnunet_stochastic.io.names import few

__all__ = ["DicomCase", "find_dicom_cases"]

#: File endings of formats that keep place and directions, and what is written instead where compressing takes long.
_ENDINGS = {".nii.gz": ".nii", ".nii": ".nii", ".nrrd": ".nrrd", ".mha": ".mha"}


@dataclass(frozen=True)
class DicomCase(InputCase):
    """An image to predict, its ``files`` the folders of its series, one per channel.

    Parameters
    ----------
    file_ending
        File ending of the data set's images, of a format that keeps place and directions.
    """

    file_ending: str = ".nii.gz"

    def sha256(self) -> list[str]:
        """Hashes of all that is read for the case: one per series, of the names and contents of its files."""
        hashes = [
            content_sha256([[path.name, file_sha256(path)] for path in slice_files(folder)]) for folder in self.files
        ]
        return hashes + ([] if self.previous_stage is None else [file_sha256(self.previous_stage)])

    def read(self, reader: ImageReader) -> tuple[np.ndarray, dict[str, Any]]:
        """Channels (channels, z, y, x) of the image, float32, and their properties.

        Raises
        ------
        OSError, ValueError
            As of ``dicom.series.read_case`` and ``io.images.read_image``.
        """
        from nnunet_stochastic.dicom.series import read_case
        from nnunet_stochastic.dicom.volume import write_volume

        channels = read_case(self.files)
        with tempfile.TemporaryDirectory(prefix="nnunet_stochastic-") as folder:
            paths = [Path(folder) / f"{self.name}_{channel:04d}{self.file_ending}" for channel in range(len(channels))]
            for series, path in zip(channels, paths, strict=True):
                write_volume(series, path)
            return read_image(paths, reader)

    def origin(self) -> dict[str, Any]:
        """Folders of the series, and their unique identifiers, by which an export to DICOM finds them."""
        from nnunet_stochastic.dicom.series import series_identity

        return super().origin() | {"dicom_series": [series_identity(folder) for folder in self.files]}


def find_dicom_cases(
    folder: Path,
    output_folder: Path,
    *,
    file_ending: str,
    num_channels: int,
    previous_stage_folder: Path | None = None,
) -> list[DicomCase]:
    """Cases of a folder of folders of DICOM series, see ``dicom.folders``; sorted by name.

    Parameters
    ----------
    folder
        Folder that holds a folder per case.
    output_folder
        Folder that predictions go to, which must not be one of the cases.
    file_ending
        File ending of the data set, for instance ``.nii.gz``.
    num_channels
        Number of channels of an image, a series each.
    previous_stage_folder
        Folder of the segmentations of a cascade's previous stage.

    Raises
    ------
    FileNotFoundError, ValueError
        Folders are missing or laid out otherwise, the format of the data set keeps no geometry, or the extra ``dicom``
        is not installed.
    """
    if file_ending not in _ENDINGS:
        raise ValueError(
            f"{folder} has folders and no image *{file_ending}; DICOM series are read for models of data sets whose "
            f"files keep place and directions ({', '.join(_ENDINGS)})"
        )
    if folder.resolve() in output_folder.resolve().parents:
        raise ValueError(f"{output_folder} is among the DICOM series in {folder}: choose another output folder with -o")
    require_libraries()
    found = series_folders(folder, num_channels=num_channels)
    previous = {
        name: None if previous_stage_folder is None else previous_stage_folder / f"{name}{file_ending}"
        for name in found
    }
    if missing := [str(path) for path in previous.values() if path is not None and not path.is_file()]:
        raise FileNotFoundError("missing input files: " + few(missing, "files"))
    return [DicomCase(name, folders, previous[name], _ENDINGS[file_ending]) for name, folders in found.items()]
