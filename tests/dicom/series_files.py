"""Small DICOM series, made of arrays: CT slices in files whose names say nothing of their order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

#: Directions in which columns and rows are counted, patient's left, posterior and superior.
AXIAL, SAGITTAL = (1.0, 0, 0, 0, 1, 0), (0.0, 1, 0, 0, 0, -1)
_TILT = np.deg2rad(17.0)
OBLIQUE = (
    *(round(value, 7) for value in (np.cos(_TILT), np.sin(_TILT), 0.0)),
    *(round(value, 7) for value in (-np.sin(_TILT) * np.cos(0.4), np.cos(_TILT) * np.cos(0.4), np.sin(0.4))),
)
PIXEL_SPACING_MM, DISTANCE_MM = (0.8, 0.7), 2.5


def uids(seed: str) -> dict[str, str]:
    """Study, series and frame of reference of a seed."""
    names = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    return {name: generate_uid(entropy_srcs=[seed, name]) for name in names}


def ct_slice(
    pixels: np.ndarray, position: np.ndarray, number: int, identity: dict[str, str], **changes: Any
) -> Dataset:
    """A slice (rows, columns) of int16; ``changes`` are attributes that replace others, ``None`` removes."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SpecificCharacterSet = "ISO_IR 100"
    made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    made.SOPClassUID, made.Modality, made.Manufacturer = CTImageStorage, "CT", "Maker"
    made.SOPInstanceUID = generate_uid(entropy_srcs=[identity["SeriesInstanceUID"], str(number), str(position)])
    for name, value in identity.items():
        setattr(made, name, value)
    made.PatientID, made.PatientName, made.PatientBirthDate, made.PatientSex = "17", "Müller^Jörg", "19500102", "M"
    made.StudyID, made.StudyDate, made.StudyTime, made.AccessionNumber = "3", "20200304", "101112", "77"
    made.ReferringPhysicianName, made.SeriesNumber, made.InstanceNumber = "", 4, number
    made.Rows, made.Columns = pixels.shape
    made.PixelSpacing, made.SliceThickness = list(PIXEL_SPACING_MM), DISTANCE_MM
    made.ImageOrientationPatient, made.ImagePositionPatient = list(AXIAL), [float(f"{value:.6f}") for value in position]
    made.PatientPosition, made.Laterality, made.PositionReferenceIndicator = "HFS", "", ""
    made.KVP, made.AcquisitionNumber = "", 1
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 1
    made.RescaleSlope, made.RescaleIntercept = 1, -1024
    made.PixelData = pixels.astype("<i2").tobytes()
    for name, value in changes.items():
        if value is None:
            delattr(made, name)
        else:
            setattr(made, name, value)
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    return made


def series_slices(
    array: np.ndarray,
    *,
    orientation: tuple[float, ...] = AXIAL,
    origin: tuple[float, float, float] = (-10.5, -20.25, 300.0),
    seed: str = "series",
    **changes: Any,
) -> list[Dataset]:
    """Slices of an array (slices, rows, columns) of int16, in order along their normal."""
    normal = np.cross(orientation[:3], orientation[3:])
    identity = uids(seed)
    return [
        ct_slice(
            pixels,
            np.array(origin) + number * DISTANCE_MM * normal,
            number + 1,
            identity,
            **{"ImageOrientationPatient": list(orientation), **changes},
        )
        for number, pixels in enumerate(array)
    ]


def write_slices(folder: Path, slices: list[Dataset], *, seed: int = 0) -> list[Path]:
    """Write slices under names in a random order; the files, in the order of the slices."""
    folder.mkdir(parents=True, exist_ok=True)
    names = np.random.default_rng(seed).permutation(len(slices))
    files = [folder / f"IM{name:04d}" for name in names]
    for file, each in zip(files, slices, strict=True):
        each.save_as(file, enforce_file_format=True)
    return files


def hounsfield(shape: tuple[int, int, int] = (7, 12, 10), seed: int = 5) -> np.ndarray:
    """Stored values of a CT, smooth and of no symmetry, int16."""
    axes = np.meshgrid(*(np.linspace(0, 3, size) for size in shape), indexing="ij")
    smooth = 400 * np.sin(axes[0] + 2 * axes[1]) + 300 * np.cos(3 * axes[2]) + 1000
    return (smooth + np.random.default_rng(seed).normal(0, 30, shape)).astype(np.int16)
