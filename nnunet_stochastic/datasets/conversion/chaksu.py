"""Chákṣu as an nnU-Net dataset: optic disc and cup in photographs of the retina, drawn by five ophthalmologists.

A case is x(3, 128, 128), y_1 … y_5 ∈ {0, disc 1, cup 2}. Of each annotation the largest connected component (of pixels
that share a side) is kept; the disc is joined with the cup, so that the cup lies inside. The crop is a square around
the middle of the box of all five discs, its side twice the mean diameter of the device's discs, so that devices differ
in their images but not in the size of the disc; outside of the photograph it is black. It is resized to 128 x 128:
images by the mean over each new pixel's area, labels by the pixel in its middle. Photographs and masks are taken as
they are shown, turned as their EXIF orientation says.

Remidio is the data set, with the original test split; a fifth of its training images are for validation. Bosch and
Forus are out of distribution, all of their images. Nothing that is published says which images are of one patient, so
each counts as a patient of its own.

Kumar et al., Scientific Data 10:70 (2023). Selection, crop and split: Christensen et al., Rethinking
Uncertainty Quantification and Entanglement in Image Segmentation, section 3.1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image, ImageOps
from scipy import ndimage

from nnunet_stochastic.datasets.conversion.common import (
    TEST,
    TRAIN,
    VALIDATION,
    Conversion,
    ConvertedCase,
    Skipped,
    Source,
    draw,
    fifth,
    label_image,
    majority_vote,
)
from nnunet_stochastic.datasets.conversion.run import dataset_name

__all__ = ["DISC_DIAMETERS", "IMAGE_SIZE", "NUM_RATERS", "plan_chaksu"]

NUM_RATERS = 5
IMAGE_SIZE = 128
DISC_DIAMETERS = {"Bosch": 225.29, "Forus": 325.02, "Remidio": 448.05}  # mean, in pixels
_IN_DISTRIBUTION = "Remidio"
_PHOTOGRAPHS, _ANNOTATIONS = "1.0_Original_Fundus_Images", "3.0_Doctors_Annotations_Binary_OD_OC"
_OPAQUE = 255
_LARGEST_SHARE = 0.5  # of a photograph; the largest discs are below a tenth
_ENDINGS = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff"}
_CLASSES = {"background": 0, "disc": 1, "cup": 2}


@dataclass(frozen=True)
class _Files:
    """A photograph, and the masks of disc and cup of each ophthalmologist."""

    device: str
    photograph: Path
    masks: tuple[tuple[Path, Path], ...]


def plan_chaksu(folder: Path, number: int, *, seed: int = 0) -> Conversion:
    """Find the photographs and their masks, and split them.

    Parameters
    ----------
    folder
        Folder that holds Train and Test.
    number
        Number of the dataset, NNN.
    seed
        Seed of the draw of the validation images.
    """
    if absent := [name for name in ("Train", "Test") if not (folder / name / _PHOTOGRAPHS).is_dir()]:
        raise ValueError(
            f"{folder} has no folder {absent[0]}/{_PHOTOGRAPHS}; -i is the folder with the unpacked Train and Test"
        )
    found: list[tuple[str, str, _Files]] = []
    skipped = []
    for split in ("Train", "Test"):
        for device in DISC_DIAMETERS:
            for name, result in _find_files(folder / split, device):
                case = f"{device}_{split}_{name}"
                if isinstance(result, str):
                    skipped.append(Skipped(case, result))
                else:
                    found.append((case, split, result))
    training = [case for case, split, files in found if split == "Train" and files.device == _IN_DISTRIBUTION]
    validation = set(draw(training, fifth(len(training)), np.random.default_rng(seed), skipped=skipped)[0])

    def part(case: str, split: str, device: str) -> str:
        if device != _IN_DISTRIBUTION:
            return f"OOD_{device}"
        if split == "Test":
            return TEST
        return VALIDATION if case in validation else TRAIN

    sources = [
        Source(case, {case: part(case, split, files.device)}, files, case, (files.photograph, *chain(*files.masks)))
        for case, split, files in found
    ]
    devices = Counter(files.device for *_, files in found)
    return Conversion(
        dataset_name(number, "Chaksu"),
        {"converter": "Chaksu", "folder": str(folder.resolve()), "seed": seed},
        {
            "channel_names": {"0": "R", "1": "G", "2": "B"},
            "labels": _CLASSES,
            "file_ending": ".png",
            "num_raters": NUM_RATERS,
            "reference": "Kumar et al., Chákṣu: a glaucoma specific fundus image database, Scientific Data 10:70, 2023",
            "licence": "CC BY 4.0",
        },
        sources,
        _convert,
        skipped,
        (
            f"images: {', '.join(f'{devices[device]} {device}' for device in DISC_DIAMETERS)} "
            "(published: 145, 126, 1074, of which 264 Remidio images for testing)",
            "rule: largest component of each mask, disc joined with cup, crop of "
            + ", ".join(f"{_crop_side(device)} pixels ({device})" for device in DISC_DIAMETERS)
            + f" around the union of the discs, resized to {IMAGE_SIZE} x {IMAGE_SIZE}",
            "label: the class with most of the five votes; ties to foreground, then to disc",
        ),
        configuration="2d",
    )


def _find_files(split: Path, device: str) -> Iterator[tuple[str, _Files | str]]:
    """Name of each photograph of a device with its files, or with what is missing."""
    experts = [split / _ANNOTATIONS / f"Expert {n}" / device for n in range(1, NUM_RATERS + 1)]
    masks = [[_by_stem(_subfolder(expert, structure)) for structure in ("Disc", "Cup")] for expert in experts]
    for stem, photograph in sorted(_by_stem(split / _PHOTOGRAPHS / device).items()):
        missing = [
            f"{expert.parent.name} {structure}"
            for expert, found in zip(experts, masks, strict=True)
            for structure, files in zip(("disc", "cup"), found, strict=True)
            if stem not in files
        ]
        if missing:
            yield photograph.stem, f"no mask: {', '.join(missing)}"
        else:
            yield photograph.stem, _Files(device, photograph, tuple((disc[stem], cup[stem]) for disc, cup in masks))


def _subfolder(folder: Path, name: str) -> Path:
    """The sub-folder of this name; some are spelt in small letters."""
    if folder.is_dir():
        for found in folder.iterdir():
            if found.name.lower() == name.lower():
                return found
    return folder / name


def _by_stem(folder: Path) -> dict[str, Path]:
    """Images by name without ending, in small letters: endings and capitals differ between images and masks."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() in _ENDINGS and not path.name.startswith("."):
            if path.stem.lower() in files:
                raise ValueError(f"{path} and {files[path.stem.lower()].name} have the same name; remove one")
            files[path.stem.lower()] = path
    return files


def _convert(source: Source) -> Iterator[ConvertedCase]:
    files: _Files = source.data
    colours = np.asarray(_read_picture(files.photograph).convert("RGB"))
    discs, cups = [], []
    for disc, cup in files.masks:
        cups.append(_largest_component(_read_mask(cup, colours.shape[:2])))
        discs.append(_largest_component(_read_mask(disc, colours.shape[:2])) | cups[-1])
    union = np.any(discs, axis=0)
    if not union.any():
        raise ValueError("all masks of its disc are empty")
    side = _crop_side(files.device)
    start = [_start(np.flatnonzero(union.any(axis)), side) for axis in (1, 0)]
    middles = (np.arange(IMAGE_SIZE) * 2 + 1) * side // (2 * IMAGE_SIZE)
    raters = np.stack(
        [
            _crop(disc.astype(np.uint8) + cup, start, side)[np.ix_(middles, middles)]
            for disc, cup in zip(discs, cups, strict=True)
        ]
    )
    channels = [_shrink(_crop(channel, start, side)) for channel in np.moveaxis(colours, -1, 0)]
    (name,) = source.cases
    yield ConvertedCase(
        name,
        [sitk.GetImageFromArray(channel) for channel in channels],
        label_image(majority_vote(raters, len(_CLASSES))),
        [label_image(rater) for rater in raters],
    )


def _read_mask(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A mask, bool (y, x): everything that is not black.

    Raises
    ------
    ValueError
        If it is of another shape, is partly transparent, or covers most of the photograph, as an inverted one does.
    """
    image = _read_picture(path)
    if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < _OPAQUE:
        raise ValueError(f"{path} is partly transparent, so what it marks is unknown; save it in black and white")
    mask = np.asarray(image.convert("L")) > 0
    if mask.shape != shape:
        raise ValueError(f"{path} has {mask.shape} pixels (y, x), the photograph {shape}")
    if (share := mask.mean()) > _LARGEST_SHARE:
        raise ValueError(f"{path} marks {share:.0%} of the photograph; structures are white, all else black: invert it")
    return mask


def _read_picture(path: Path) -> Image.Image:
    """A picture as it is shown, turned as its EXIF orientation says; ``OSError`` if it cannot be read."""
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image)
    except Exception as error:  # of Pillow's many readers, few of which name the file
        raise OSError(f"{path} cannot be read: {error}") from error


def _largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest one; of equally large ones the first row by row. Nothing of nothing."""
    components, count = ndimage.label(mask)
    return components == np.bincount(components[mask]).argmax() if count else mask


def _crop_side(device: str) -> int:
    """Twice the mean diameter of the device's discs, in pixels."""
    return round(2 * DISC_DIAMETERS[device])


def _start(occupied: np.ndarray, side: int) -> int:
    """First pixel of an interval of this length, with the occupied pixels in its middle."""
    return int(occupied[0] + occupied[-1] + 1 - side) // 2


def _crop(image: np.ndarray, start: Sequence[int], side: int) -> np.ndarray:
    """A square that starts at ``start`` (y, x); 0 where the image (y, x) has no pixels."""
    crop = np.zeros((side, side), image.dtype)
    inside = [(max(first, 0), min(first + side, length)) for first, length in zip(start, image.shape, strict=True)]
    target = tuple(slice(low - first, high - first) for (low, high), first in zip(inside, start, strict=True))
    crop[target] = image[tuple(slice(*interval) for interval in inside)]
    return crop


def _shrink(channel: np.ndarray) -> np.ndarray:
    """A square of uint8 with the mean over each new pixel's area, which is what Pillow calls a box filter."""
    image = Image.fromarray(channel.astype(np.float32))  # of integers, Pillow rounds the rows' means, too
    small = image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX)
    return np.rint(np.asarray(small)).astype(np.uint8)
