"""A series as an image file, its voxels and geometry those that SimpleITK's GDCM reader gives.

ITK takes the type of all slices from the first, so that fractions of the others are lost where only they are rescaled
by one: slices that are not of one type are read as float64.
"""

from __future__ import annotations

from pathlib import Path

import SimpleITK as sitk

from nnunet_stochastic.dicom.series import DicomSeries
from nnunet_stochastic.io.itk import itk_reason
from nnunet_stochastic.io.written import check_written

__all__ = ["write_volume"]


def write_volume(series: DicomSeries, path: Path) -> None:
    """Write the image of a series, values rescaled as each slice says (CT: Hounsfield units).

    Parameters
    ----------
    series
        The series.
    path
        File to write, of any format that SimpleITK writes.

    Raises
    ------
    OSError
        Pixels cannot be decoded, or the disk is full.
    """
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([str(file) for file in series.files])
    if not series.has_one_pixel_type:
        reader.SetOutputPixelType(sitk.sitkFloat64)
    try:
        image = reader.Execute()
    except RuntimeError as error:  # what SimpleITK raises for everything
        raise OSError(f"the slices of {series.folder} cannot be decoded: {itk_reason(error)}") from error
    sitk.WriteImage(image, str(path))
    check_written(path)
