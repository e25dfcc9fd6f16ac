"""Images of SimpleITK and nibabel, and arrays: the axes that a model's reader would give, and the way back.

A reader of nnU-Net's gives the voxels of a file along z, y, x as they are stored, or, where its name ends in
``WithReorient``, along axes that run to superior, anterior and right. So an image in memory is predicted as its file
would be, whichever of the two libraries it is of, and what is predicted is an image of that library with its geometry.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk
from nibabel.nifti1 import Nifti1Header
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from nibabel.spatialimages import SpatialImage

from nnunet_stochastic.inference.restore import Prediction
from nnunet_stochastic.io.grid import check_same_grid, check_spacing
from nnunet_stochastic.io.nifti import millimetres_per_unit
from nnunet_stochastic.maps import MapName

__all__ = ["ImageObject", "ImagePrediction", "image_object", "image_prediction", "stage_object"]

_CANONICAL = "RAS"
_NO_SLICE_DISTANCE = 999  # times the larger spacing: the first one that nnU-Net's reader gives 2D images


@dataclass(frozen=True)
class ImageObject:
    """One image as a reader would give it.

    Parameters
    ----------
    array
        Image (channels, z, y, x), float32 unless it was an array.
    properties
        Spacing and geometry, as nnU-Net's readers name them.
    like
        Makes of an array (z, y, x) an image of the given one's type and geometry.
    """

    array: np.ndarray
    properties: dict[str, Any]
    like: Callable[[np.ndarray], Any]


@dataclass(frozen=True)
class ImagePrediction:
    """What is predicted of an image, each of its type and in its geometry; arrays are (z, y, x).

    Parameters
    ----------
    segmentation
        Labels, uint8 or uint16.
    maps
        Uncertainty maps by name, float32: nats, the variance squared probabilities.
    probabilities
        Predictive mean of each class (or region), float32; ``None`` unless asked for.
    samples
        Whole segmentations, as many as were asked for, each like ``segmentation``.
    """

    segmentation: Any
    maps: dict[MapName, Any]
    probabilities: tuple[Any, ...] | None
    samples: tuple[Any, ...]


def image_object(image: Any, reader: type, *, spacing: Sequence[float] | None = None) -> ImageObject:
    """Take an image as a reader of nnU-Net's would give it.

    Parameters
    ----------
    image
        Array (channels, z, y, x), along the axes that the model was trained with; or an image of SimpleITK (2D or 3D)
        or nibabel (3D), or a list of them on one voxel grid, one per channel.
    reader
        nnU-Net's class that reads the images of the model's dataset.
    spacing
        Spacing (z, y, x) of an array, in the unit of the training data, mm as a rule; of a 2D image the first is 999 or
        its like. Images have their own.

    Raises
    ------
    ValueError
        If the image is of another kind, has several numbers per voxel, a geometry that is none, or channels on
        different grids, or the spacing is missing or too much.
    """
    if isinstance(image, np.ndarray):
        if spacing is None:
            raise ValueError("an array does not say how far its voxels are apart: name the spacing (z, y, x)")
        properties = {"spacing": [float(step) for step in spacing]}
        if image.ndim != 4 or image.dtype.kind not in "biuf":
            raise ValueError(f"an array must be (channels, z, y, x) of numbers, got {image.shape} of {image.dtype}")
        check_spacing(properties)
        return ImageObject(image, properties, lambda array: array)
    channels = list(image) if isinstance(image, (list, tuple)) else [image]
    if spacing is not None:
        raise ValueError("images have a spacing of their own: name none beside them")
    if not channels:
        raise ValueError("the list of channels is empty: pass an image per channel")
    objects = [_of_one(channel, reader) for channel in channels]
    first = objects[0]
    for index, other in enumerate(objects):
        label = Path(f"channel {index:04d}")
        if type(channels[index]) is not type(channels[0]):
            kinds = f"{type(channels[index]).__name__} and {type(channels[0]).__name__}"
            raise ValueError(f"{label} and channel 0000 are of different types, {kinds}: convert one of them")
        check_spacing(other.properties, label)
        shape, first_shape = other.array.shape[1:], first.array.shape[1:]
        check_same_grid(label, shape, other.properties, Path("channel 0000"), first_shape, first.properties)
    return ImageObject(np.concatenate([each.array for each in objects]), first.properties, first.like)


def stage_object(image: Any, of: ImageObject, reader: type, *, spacing: Sequence[float] | None = None) -> ImageObject:
    """Take the segmentation of a previous stage, which has to be on the voxel grid of the image ``of``."""
    stage = image_object(image, reader, spacing=spacing)
    names = Path("the segmentation of the previous stage"), Path("the image")
    shapes = stage.array.shape[1:], of.array.shape[1:]
    check_same_grid(names[0], shapes[0], stage.properties, names[1], shapes[1], of.properties)
    return replace(stage, array=stage.array.astype(np.float32, copy=False))


def image_prediction(prediction: Prediction, image: ImageObject) -> ImagePrediction:
    """The prediction of an image, as images of its type."""
    mean = prediction.probabilities
    return ImagePrediction(
        image.like(prediction.segmentation),
        {name: image.like(array) for name, array in prediction.maps.items()},
        None if mean is None else tuple(map(image.like, mean)),
        tuple(map(image.like, prediction.samples)),
    )


def _of_one(image: Any, reader: type) -> ImageObject:
    reorients = any(base.__name__.endswith("WithReorient") for base in reader.__mro__)
    if isinstance(image, sitk.Image):
        return _of_simpleitk(image, reorients=reorients)
    if isinstance(image, SpatialImage):
        return _of_nibabel(image, reorients=reorients)
    raise ValueError(f"an image of SimpleITK or nibabel, or a NumPy array is needed, got {type(image).__name__}")


def _of_simpleitk(image: sitk.Image, *, reorients: bool) -> ImageObject:
    dimension = image.GetDimension()
    if image.GetNumberOfComponentsPerPixel() != 1 or "complex" in image.GetPixelIDTypeAsString():
        kind = image.GetPixelIDTypeAsString()
        raise ValueError(f"the image holds a {kind} per voxel: pass a list of images, one number per voxel and channel")
    if dimension not in ((3,) if reorients else (2, 3)):
        raise ValueError(
            f"the image has {dimension} axes, the model takes {'three' if reorients else 'two or three'}: pass a list "
            "of such images, one per channel"
        )
    turned = sitk.DICOMOrient(image, _CANONICAL) if reorients else image
    steps = [float(step) for step in turned.GetSpacing()[::-1]]
    properties = {
        "spacing": steps if dimension == 3 else [max(steps) * _NO_SLICE_DISTANCE, *steps],
        "sitk_stuff": {name: getattr(turned, f"Get{name.title()}")() for name in ("spacing", "origin", "direction")},
    }
    orientation = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines
    grid = sitk.Image(turned.GetSize(), sitk.sitkUInt8)  # the voxels of the image itself are not kept
    grid.CopyInformation(turned)
    original = orientation(image.GetDirection()) if reorients else None

    def like(array: np.ndarray) -> sitk.Image:
        result = sitk.GetImageFromArray(array[0] if dimension == 2 else array)
        result.CopyInformation(grid)
        return result if original is None else sitk.DICOMOrient(result, original)

    array = sitk.GetArrayFromImage(turned).astype(np.float32, copy=False)
    return ImageObject(array[None, None] if dimension == 2 else array[None], properties, like)


def _of_nibabel(image: SpatialImage, *, reorients: bool) -> ImageObject:
    if len(image.shape) != 3:
        raise ValueError(
            f"the image of nibabel has shape {image.shape}, not three axes: pass a list of 3D images, one per channel"
        )
    if image.get_data_dtype().kind not in "iuf":
        raise ValueError(f"the image holds {image.get_data_dtype()}: one number per voxel is needed")
    affine = np.asarray(image.affine, dtype=float)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-30:
        raise ValueError(
            f"the image has no orientation: its affine must be finite and invertible, got {affine.tolist()}"
        )
    millimetres = millimetres_per_unit(image.header) if isinstance(image.header, Nifti1Header) else 1.0
    if millimetres is None:
        raise ValueError("the image's pixdim and its affine disagree about the spacing: correct its header")
    turned = nibabel.as_closest_canonical(image) if reorients else image
    properties = {
        "spacing": [float(step) * millimetres for step in turned.header.get_zooms()[:3][::-1]],
        "nibabel_stuff": {"original_affine": turned.affine},
    }
    back = ornt_transform(axcodes2ornt(_CANONICAL), io_orientation(affine)) if reorients else None
    kind, header = type(image), copy.deepcopy(image.header)

    def like(array: np.ndarray) -> SpatialImage:
        voxels = np.ascontiguousarray(array.transpose(2, 1, 0))
        if back is not None:
            voxels = apply_orientation(voxels, back)
        of_result = copy.deepcopy(header)
        of_result.set_data_dtype(voxels.dtype)
        if isinstance(of_result, Nifti1Header):
            of_result["cal_min"] = of_result["cal_max"] = 0  # the range in which a viewer shows the image
        return kind(voxels, affine, of_result)

    # Not by get_fdata, which keeps the voxels in the image.
    array = np.asarray(turned.dataobj, dtype=np.float32).transpose(2, 1, 0)
    return ImageObject(np.ascontiguousarray(array)[None], properties, like)
