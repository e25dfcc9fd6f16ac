"""Volumes of a case for the viewer: compressed NIfTI files of one byte per voxel, as text.

    image        256 grey levels from its 0.1 to its 99.9 percentile (colours as they are)
    map          256 levels from 0 to its maximum, so that it is true to within max/510
    agreement    fraction of the raters that marked a voxel as foreground
    outline      borders, in the plane of the slices: predicted classes, or raters by number
    mask         what the outlines are of, from which the viewer draws those of the planes that it shows: the border of
                 a mask within one plane fills whole areas of another, where that only touches the structure

A mask is a number per voxel: the predicted class, counted as in its outline, of the segmentation or of each sample (a
file of 4 dimensions); or the sum of 2^i over the raters i that marked it, or over the structures i whose inner or outer
mask it is in, which may overlap.

A NIfTI file scales its bytes back, so the viewer shows values in their unit.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from scipy.ndimage import binary_erosion, generate_binary_structure

from nnunet_stochastic.evaluation.mask_files import MASKS
from nnunet_stochastic.io.grid import world_affine
from nnunet_stochastic.measures import MAPS
from nnunet_stochastic.report.page.cases import CaseSource
from nnunet_stochastic.report.page.grey import grey_levels
from nnunet_stochastic.report.page.thumbnails import thumbnail_view
from nnunet_stochastic.report.slice_view import SliceView

__all__ = ["CaseVolumes", "Layer", "encode_case"]

WINDOW = (0.1, 99.9)
AGREEMENT = "agreement"
MOST_BITS = 16
MOST_SAMPLES = 20
MOST_SAMPLE_VOXELS = 100_000_000
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
        "image", "map", "outline", or of a mask "classes", "bits" or "samples".
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
        The volumes that are drawn.
    masks
        Masks of the annotations, of the prediction and of the samples, as far as they are there.
    oriented
        Whether the files say where left and right are; if not, the viewer must not write it.
    shape
        Shape (z, y, x).
    affine
        Matrix from voxel (x, y, z) to mm, (4, 4).
    start
        Voxel (x, y, z) to look at first: in the slice of the thumbnail, where the first map is largest, or the middle.
    to_index
        Matrix from the world of the image, as lesions.csv has it, to the index (z, y, x, 1) of a voxel, (4, 4).
    """

    layers: tuple[Layer, ...]
    masks: tuple[Layer, ...]
    oriented: bool
    shape: tuple[int, ...]
    affine: np.ndarray
    start: tuple[int, ...]
    to_index: np.ndarray

    def place_mm(self, world_mm: Sequence[float]) -> list[float]:
        """Where the viewer has a place (x, y, z) of the image's world: elsewhere where the files have no directions."""
        z, y, x, one = self.to_index @ (*world_mm, 1.0)
        return (self.affine @ (x, y, z, one))[:3].tolist()

    @property
    def size(self) -> int:
        """Bytes of text."""
        return sum(len(layer.nifti) for layer in self.files)

    @property
    def files(self) -> tuple[Layer, ...]:
        """All that has a file."""
        return (*self.layers, *self.masks)

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
    layers = [
        Layer(
            "image" if image is not None else "image not found",
            "image",
            _nifti(pixels, affine, is_colour=pixels.ndim == 4),
        )
    ]
    view: SliceView | None = None
    start: tuple[int, ...] | None = None
    for name in MAPS:
        volume = source.map(name, shape, grid)
        if name == "total":
            view = thumbnail_view(prediction, grid, volume)
        if volume is not None:
            layers.append(_map_layer(name, volume, affine))
            if start is None and view is not None:
                start = _largest_in_slice(volume, view)
    if start is None:
        start = tuple(size // 2 for size in shape)
    masks = source.rater_masks(shape, grid)
    if len(masks) > 1:
        agreement = np.sum([mask.astype(np.float32) for mask in masks.values()], axis=0) / len(masks)
        layers.append(_map_layer(AGREEMENT, agreement, affine))
    filled = []
    if masks:
        layers.append(_outline_layer("annotations", masks, shape, affine))
        filled.append(Layer("annotations", "bits", _nifti(_bits(masks.values(), shape)[0], affine)))
    classes = source.files.labels.value_names()
    predicted = {name: prediction == value for value, name in classes.items() if np.any(prediction == value)}
    layers.append(_outline_layer("prediction", predicted, shape, affine))
    shown = [value for value, name in classes.items() if name in predicted]
    filled.append(Layer("prediction", "classes", _nifti(_numbered(prediction, shown), affine), labels=tuple(predicted)))
    if samples := _shown_samples(source, shape):
        # Counted over all classes, for a sample may have one that the segmentation has not.
        numbered = np.stack([_numbered(source.sample(path, shape, grid), list(classes)) for path in samples])
        filled.append(Layer("samples", "samples", _nifti(numbered, affine), labels=tuple(classes.values())))
    if source.decided is not None:
        alpha = source.decided.alpha
        filled += [_decided_layer(which, source, alpha, shape, grid, affine) for which in reversed(MASKS)]
    to_index = np.linalg.inv(world_affine(grid))
    return CaseVolumes(tuple(layers), tuple(filled), oriented, shape, affine, start[::-1], to_index)


def _shown_samples(source: CaseSource, shape: tuple[int, ...]) -> list[Path]:
    """The first samples, as many as a browser has room for."""
    most = min(MOST_SAMPLES, MOST_SAMPLE_VOXELS // int(np.prod(shape)))
    return source.sample_files()[:most]


def _largest_in_slice(volume: np.ndarray, view: SliceView) -> tuple[int, ...] | None:
    """Voxel (z, y, x) of the view's slice where a map is largest; ``None`` where it is 0 there."""
    plane = np.take(volume, [view.index], axis=view.axis)
    if not plane.any():
        return None
    place = [int(index) for index in np.unravel_index(plane.argmax(), plane.shape)]
    place[view.axis] = view.index
    return tuple(place)


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


def _bits(masks: Iterable[np.ndarray], shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """Which of the masks a voxel is in, and how many there are; those behind the sixteenth have no bit left."""
    marked, number = np.zeros(shape, np.uint16), 0
    for mask in masks:
        if number < MOST_BITS:
            marked |= mask.astype(np.uint16) << number
        number += 1
    return (marked if number > 8 else marked.astype(np.uint8)), number


def _decided_layer(
    which: str, source: CaseSource, alpha: float, shape: tuple[int, ...], grid: dict, affine: np.ndarray
) -> Layer:
    """Inner or outer masks of the structures that have any voxel in theirs, read one after the other."""
    marked, number = _bits((mask for mask in source.decided_masks(which, shape, grid) if mask.any()), shape)
    share = f"{100 * alpha:g} %"
    told = f"misses {share} at most" if which == "outer" else f"{share} of it too much at most"
    if number > MOST_BITS:
        told += f", the first {MOST_BITS} of {number} structures"
    return Layer(which, "bits", _nifti(marked, affine), labels=(told if number else "empty",))


def _numbered(volume: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """A label map with 1, 2 … for the given values and 0 for others, uint8."""
    numbered = np.zeros(volume.shape, np.uint8)
    for number, value in enumerate(values, start=1):
        numbered[volume == value] = min(number, 255)
    return numbered


def _windowed(image: np.ndarray) -> np.ndarray:
    if image.ndim == 4:
        return np.clip(image, 0, 255).astype(np.uint8)
    return grey_levels(image, WINDOW)


def _nifti(levels: np.ndarray, affine: np.ndarray, *, slope: float = 1.0, is_colour: bool = False) -> str:
    """Levels (z, y, x), several of them (N, z, y, x), or colours (z, y, x, 3), as a file with the axes x, y, z, N."""
    if is_colour:
        colours = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
        levels = np.ascontiguousarray(levels).view(colours)[..., 0]
    levels = levels.T
    header = nibabel.Nifti1Header(endianness="<")
    header.set_data_dtype(levels.dtype)
    header.set_data_shape(levels.shape)
    header.set_zooms([*nibabel.affines.voxel_sizes(affine), *[1.0] * (levels.ndim - 3)])
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
