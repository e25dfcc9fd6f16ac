"""Volumes of a case for the viewer: compressed NIfTI files of one byte per voxel, as text.

    image        256 grey levels from its 0.1 to its 99.9 percentile (colours as they are)
    map          256 levels from 0 to its maximum, so that it is true to within max/510
    agreement    fraction of the raters that marked a voxel as foreground
    outline      borders, in the plane of the slices: predicted classes, or raters by number

A NIfTI file scales its bytes back, so the viewer shows values in their unit.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import nibabel
import numpy as np
from scipy.ndimage import binary_erosion, generate_binary_structure

from nnunet_stochastic.report.page.cases import MAPS, CaseSource
from nnunet_stochastic.report.page.grey import grey_levels

__all__ = ["CaseVolumes", "Layer", "encode_case"]

WINDOW = (0.1, 99.9)
AGREEMENT = "agreement"
UNITS = dict.fromkeys(("total", "aleatoric", "epistemic"), "nats") | {"variance": "", AGREEMENT: ""}
IN_PLANE = generate_binary_structure(3, 1) & np.array([False, True, False])[:, None, None]


@dataclass(frozen=True)
class Layer:
    """A volume of the viewer.

    Attributes
    ----------
    name
        Name of the layer.
    kind
        "image", "map" or "outline".
    nifti
        NIfTI file, gzip in base64.
    maximum
        Largest value of a map, in ``unit``.
    unit
        Unit of a map.
    labels
        Meaning of the values 1, 2 … of an outline.
    """

    name: str
    kind: str
    nifti: str
    maximum: float | None = None
    unit: str = ""
    labels: tuple[str, ...] = ()

    def description(self) -> dict[str, Any]:
        """Everything but the file."""
        return {key: value for key, value in asdict(self).items() if key != "nifti"}


@dataclass(frozen=True)
class CaseVolumes:
    """Layers of a case, the image first.

    Attributes
    ----------
    layers
        The volumes.
    oriented
        Whether the files say where left and right are; if not, the viewer must not write it.
    shape
        Shape (z, y, x).
    affine
        Matrix from voxel (x, y, z) to mm, (4, 4).
    start
        Voxel (x, y, z) to look at first: where the first map is largest, or the middle.
    """

    layers: tuple[Layer, ...]
    oriented: bool
    shape: tuple[int, ...]
    affine: np.ndarray
    start: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of text."""
        return sum(len(layer.nifti) for layer in self.layers)

    def description(self) -> dict[str, Any]:
        """Everything but the layers."""
        return {
            "oriented": self.oriented,
            "shape": self.shape,
            "start_mm": (self.affine @ (*self.start, 1.0))[:3].tolist(),
            "to_voxel": np.linalg.inv(self.affine)[:3].tolist(),
        }


def encode_case(source: CaseSource) -> CaseVolumes:
    """Read a case and make its layers; without an image a black one stands in.

    Raises
    ------
    ValueError, OSError, RuntimeError
        A file is missing or broken.
    """
    prediction, grid = source.prediction()
    shape = prediction.shape
    affine = _affine(grid)
    oriented = affine is not None
    if affine is None:
        depth, height, width = grid["spacing"]
        # Rows run down and columns to the right, as in the file.
        affine = np.diag([-width, -height, 1.0 if shape[0] == 1 else depth, 1.0])

    image = source.image(shape)
    pixels = np.zeros(shape, np.uint8) if image is None else _windowed(image)
    layers = [Layer("image" if image is not None else "image not found", "image", _nifti(pixels, affine))]
    start: tuple[int, ...] | None = None
    for name in MAPS:
        volume = source.map(name, shape, grid)
        if volume is not None:
            layers.append(_map_layer(name, volume, affine))
            if start is None and volume.any():
                start = tuple(int(index) for index in np.unravel_index(volume.argmax(), shape))
    if start is None:
        start = tuple(size // 2 for size in shape)
    masks = source.rater_masks(shape, grid)
    if len(masks) > 1:
        agreement = np.sum([mask.astype(np.float32) for mask in masks.values()], axis=0) / len(masks)
        layers.append(_map_layer(AGREEMENT, agreement, affine))
    if masks:
        layers.append(_outline_layer("annotations", masks, shape, affine))
    classes = source.files.labels.value_names()
    predicted = {name: prediction == value for value, name in classes.items() if np.any(prediction == value)}
    layers.append(_outline_layer("prediction", predicted, shape, affine))
    return CaseVolumes(tuple(layers), oriented, shape, affine, start[::-1])


def _map_layer(name: str, volume: np.ndarray, affine: np.ndarray) -> Layer:
    top = float(volume.max())
    # One byte per voxel, 0 to 255 for 0 to the maximum.
    levels = np.rint(volume * (255 / top if top > 0 else 0.0)).astype(np.uint8)
    return Layer(name, "map", _nifti(levels, affine, slope=top / 255 if top > 0 else 1.0), top, UNITS[name])


def _outline_layer(name: str, masks: Mapping[str, np.ndarray], shape: tuple[int, ...], affine: np.ndarray) -> Layer:
    outline = np.zeros(shape, np.uint8)
    for value, mask in enumerate(masks.values(), start=1):
        outline[mask & ~binary_erosion(mask, IN_PLANE)] = min(value, 255)
    return Layer(name, "outline", _nifti(outline, affine), labels=tuple(masks))


def _windowed(image: np.ndarray) -> np.ndarray:
    if image.ndim == 4:
        return np.clip(image, 0, 255).astype(np.uint8)
    return grey_levels(image, WINDOW)


def _nifti(levels: np.ndarray, affine: np.ndarray, *, slope: float = 1.0) -> str:
    """Levels (z, y, x), or colours (z, y, x, 3), uint8, as a file with the axes x, y, z."""
    if levels.ndim == 4:
        colours = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
        levels = np.ascontiguousarray(levels).view(colours)[..., 0]
    levels = levels.T
    header = nibabel.Nifti1Header(endianness="<")
    header.set_data_dtype(levels.dtype)
    header.set_data_shape(levels.shape)
    header.set_zooms(nibabel.affines.voxel_sizes(affine))
    header.set_xyzt_units("mm")
    header.set_sform(affine, code="scanner")
    header.set_slope_inter(slope, 0)
    header["magic"], header["vox_offset"] = b"n+1", 352  # header, and four bytes that say that nothing follows it
    content = header.binaryblock + bytes(4) + levels.tobytes(order="F")
    return base64.b64encode(gzip.compress(content, mtime=0)).decode("ascii")


def _affine(grid: dict) -> np.ndarray | None:
    """Voxel (x, y, z) to the patient's right, anterior, superior in mm, or ``None`` where the file does not say."""
    if "nibabel_stuff" in grid:
        affines = grid["nibabel_stuff"]
        return np.asarray(affines.get("reoriented_affine", affines["original_affine"]), dtype=float)
    geometry = grid.get("sitk_stuff", {"spacing": ()})
    if len(geometry["spacing"]) != 3:
        return None
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(geometry["direction"], (3, 3)) * np.asarray(geometry["spacing"])
    affine[:3, 3] = geometry["origin"]
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # ITK's patient axes are left, posterior
