"""Corrupt a folder of images: one folder per shift, each image complete or absent, with a manifest of what was done.

    OUT/blur/case_0000.nii.gz    an image of each channel, in nnU-Net's naming
    OUT/blur/manifest.json       seed, ranges, versions, and the parameters of each case; what is left of its contrast

Parameters depend on seed, shift and case alone, so neither the other cases nor the number of threads change an image.
The manifest is written before the first image: an interrupted command is continued with the same settings or refused.
"""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_stochastic import __version__
from nnunet_stochastic.datasets.corruptions.contrast import is_gone, is_unchanged, kept_contrast
from nnunet_stochastic.datasets.corruptions.shifts import SHIFTS, check_range, corrupt_image, draw_parameters
from nnunet_stochastic.datasets.corruptions.stored_image import (
    LOSSY_ENDINGS,
    SUPPORTED_ENDINGS,
    StoredImage,
    read_stored_image,
    spacing_file,
)
from nnunet_stochastic.evaluation.parallel import map_in_threads
from nnunet_stochastic.io.grid import check_same_grid
from nnunet_stochastic.io.hashing import file_sha256
from nnunet_stochastic.io.names import check_names, few
from nnunet_stochastic.io.schemas import CorruptionManifest
from nnunet_stochastic.io.staging import holds_anything, remove_leftovers, staged_files
from nnunet_stochastic.io.text import read_json, write_json
from nnunet_stochastic.io.written import has_right_checksums, is_whole
from nnunet_stochastic.seeds import stream_seed

__all__ = ["MANIFEST", "CorruptionReport", "corrupt_folder", "find_images"]

MANIFEST = "manifest.json"
_LIBRARIES = ("numpy", "scipy", "scikit-image", "pillow", "torchio")


@dataclass(frozen=True)
class ImageCase:
    """The images of a case, a file per channel."""

    name: str
    files: tuple[Path, ...]
    labels: Path | None = None


@dataclass(frozen=True)
class CorruptionReport:
    """What ``corrupt_folder`` did.

    Attributes
    ----------
    folders : dict of str to Path
        The folder of each shift.
    num_cases, num_written : int
        Cases of a folder, and how many of all folders' were written now.
    constant : list of str
        Cases with a constant channel, which shifts leave as it is.
    gone, unchanged : dict of str to list of str
        Cases of a shift in which less than a quarter of the contrast is left, of a structure or of the image, and those
        that are nearly as they were; only shifts with such cases.
    """

    folders: dict[str, Path]
    num_cases: int
    num_written: int
    constant: list[str]
    gone: dict[str, list[str]] = field(default_factory=dict)
    unchanged: dict[str, list[str]] = field(default_factory=dict)


def corrupt_folder(
    folder: str | Path,
    output: str | Path,
    *,
    ranges: Mapping[str, tuple[float, float] | None],
    labels: str | Path | None = None,
    seed: int = 0,
    num_threads: int = 1,
    resume: bool = False,
    show_progress: bool = False,
) -> CorruptionReport:
    """Write a corrupted copy of each image of a folder for each shift.

    Parameters
    ----------
    folder
        Images in nnU-Net's naming.
    output
        Folder that gets a folder per shift.
    ranges
        The shifts, by name, each with the range of its strength; None for the default (`Shift.default_range`, and what
        belongs to it).
    labels
        Label maps of the images, CASE + ending, that say of which structures the contrast must be left; they change
        nothing in the images.
    seed
        Seed of all random parameters.
    num_threads
        Number of cases at a time; each needs memory for its channels.
    resume
        Whether to keep the images that an earlier call with the same settings has written.
    show_progress
        Whether to draw progress bars.

    Raises
    ------
    ValueError, OSError
        Before anything is written: for ranges that a shift does not allow, images that cannot be read or belong to no
        case, channels that do not match, and folders that hold something else.
    """
    if not ranges:
        raise ValueError(f"no shift was named; choose from {', '.join(SHIFTS)}")
    for name, limits in ranges.items():
        check_range(name, limits)
    cases = find_images(folder)
    if labels is not None:
        cases = _with_labels(cases, Path(labels))
    folders = {name: Path(output) / name for name in ranges}
    for path in folders.values():
        _check_output(path, resume=resume)

    found = map_in_threads(
        _check_case, cases, num_threads=num_threads, description="checking", show_progress=show_progress
    )
    if problems := [f"  {problem}" for problem in found if isinstance(problem, str)]:
        raise ValueError("nothing was corrupted, because of these problems:\n" + "\n".join(problems))
    findings = {case.name: finding for case, finding in zip(cases, found, strict=True) if not isinstance(finding, str)}
    manifests = {name: _manifest(name, ranges[name], seed, Path(folder), findings) for name in ranges}
    if resume:
        for name, path in folders.items():
            _check_same_settings(path / MANIFEST, manifests[name])
    for name, path in folders.items():
        path.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        write_json(path / MANIFEST, manifests[name])

    def corrupt(case: ImageCase) -> tuple[int, dict[str, _Left]]:
        complete = {name for name, path in folders.items() if all(_is_complete(path / f.name) for f in case.files)}
        parameters = {name: manifests[name]["cases"][case.name]["parameters"] for name in folders}
        left = _corrupt_case(case, folders, parameters, complete)
        return len(folders) - len(complete), left

    done = map_in_threads(
        corrupt, cases, num_threads=num_threads, description="corrupting", show_progress=show_progress
    )
    constant = [name for name, finding in findings.items() if finding["constant_channels"]]
    left = {name: {case.name: found[name] for case, (_, found) in zip(cases, done, strict=True)} for name in folders}
    for name, path in folders.items():
        kept = {case: found.contrast for case, found in left[name].items()}
        of_what = "of the image" if labels is None else f"of the structures in {Path(labels).resolve()}"
        write_json(path / MANIFEST, {**manifests[name], "contrast": {"of": of_what, "kept": kept}})
    return CorruptionReport(
        folders,
        len(cases),
        sum(number for number, _ in done),
        constant,
        _by_shift(left, lambda found: found.is_gone),
        _by_shift(left, lambda found: found.is_unchanged),
    )


@dataclass(frozen=True)
class _Left:
    """What a shift left of a case: the share of its contrast, None where it had none, and what that means."""

    contrast: float | None
    is_gone: bool
    is_unchanged: bool


def _by_shift(left: Mapping[str, Mapping[str, _Left]], is_so: Callable[[_Left], bool]) -> dict[str, list[str]]:
    found = {name: [case for case, it in cases.items() if is_so(it)] for name, cases in left.items()}
    return {name: cases for name, cases in found.items() if cases}


def _with_labels(cases: Sequence[ImageCase], folder: Path) -> list[ImageCase]:
    """The cases with their label maps, which must all be there."""
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder of label maps {folder}")
    found = []
    for case in cases:
        ending = case.files[0].name[len(f"{case.name}_0000") :]
        found.append(replace(case, labels=folder / f"{case.name}{ending}"))
    if absent := [case.labels.name for case in found if case.labels is not None and not case.labels.is_file()]:
        raise FileNotFoundError(f"{folder} lacks {few(absent, 'label maps')}; give those of all images, or none")
    return found


def find_images(folder: str | Path) -> list[ImageCase]:
    """The cases of a folder of images CASE_XXXX + ending, all of one ending and with the same channels.

    Other files (text, JSON, hidden ones) are passed over; an image that belongs to no case is an error.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no input folder {folder}")
    names: dict[str, list[str]] = defaultdict(list)  # of each ending
    for path in sorted(folder.iterdir()):
        known = (ending for ending in (*SUPPORTED_ENDINGS, *LOSSY_ENDINGS) if path.name.lower().endswith(ending))
        if path.is_file() and not path.name.startswith(".") and (ending := next(known, None)):
            names[path.name[-len(ending) :]].append(path.name[: -len(ending)])
    if not names:
        raise FileNotFoundError(f"no images in {folder}: {', '.join(SUPPORTED_ENDINGS)} are read")
    check_names((stem for stems in names.values() for stem in stems), folder)
    if len(names) > 1:
        counts = ", ".join(f"{len(stems)} of {ending}" for ending, stems in names.items())
        raise ValueError(f"the images of {folder} have several endings ({counts}): keep those of one data set")
    ((ending, stems),) = names.items()
    if ending not in SUPPORTED_ENDINGS:
        raise ValueError(
            f"images in {folder} end with {ending}, but {', '.join(SUPPORTED_ENDINGS)} are read and written: "
            "convert them (JPEG would compress the copies once more)"
        )
    if misnamed := [stem for stem in stems if not re.fullmatch(r".+_\d{4}", stem)]:
        raise ValueError(
            f"{len(misnamed)} images of {folder} are not named CASE_0000{ending} (the number is that of the "
            f"channel), as nnU-Net wants them, the first of them {misnamed[0]}{ending}"
        )
    channels: dict[str, list[str]] = defaultdict(list)
    for stem in stems:
        channels[stem[:-5]].append(stem[-4:])
    needed = [f"{number:04d}" for number in range(max(map(len, channels.values())))]
    if uneven := [f"{case} has {' '.join(numbers)}" for case, numbers in channels.items() if numbers != needed]:
        raise ValueError(f"each case in {folder} needs the channels {' '.join(needed)}, but {'; '.join(uneven)}")
    return [ImageCase(case, tuple(folder / f"{case}_{number}{ending}" for number in needed)) for case in channels]


def _check_output(folder: Path, *, resume: bool) -> None:
    """Raise unless the folder can be written into, and is new, empty, or begun by an earlier call."""
    if holds_anything(folder):
        if not resume:
            raise ValueError(
                f"{folder} is not empty: choose another -o, or continue what was begun there with --continue_corruption"
            )
        if not (folder / MANIFEST).is_file():
            raise ValueError(f"{folder} has no {MANIFEST}, so nothing was begun there: choose another -o")


def _check_case(case: ImageCase) -> dict[str, Any] | str:
    """What the manifest says of a case's images, or what is wrong with them."""
    try:
        images = [read_stored_image(file) for file in case.files]
        _ = None if case.labels is None else _read_labels(case.labels, case.files[0], images[0])
    except (ValueError, OSError) as error:
        return f"{case.name}: {error}"
    first = images[0]
    try:
        for file, image in zip(case.files[1:], images[1:], strict=True):
            (channels, *shape), (first_channels, *first_shape) = image.values.shape, first.values.shape
            check_same_grid(file, tuple(shape), image.grid, case.files[0], tuple(first_shape), first.grid)
            if channels != first_channels:
                raise ValueError(f"{file} has {channels} channels, {case.files[0]} has {first_channels}")
    except ValueError as error:
        return f"{case.name}: {error}"
    channels = [channel for image in images for channel in image.values]
    return {
        "slice_axis": "zyx"[first.slice_axis],
        "sha256": [file_sha256(file) for file in case.files],
        "constant_channels": [index for index, channel in enumerate(channels) if channel.min() == channel.max()],
    }


def _manifest(
    name: str, limits: tuple[float, float] | None, seed: int, folder: Path, findings: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    shift = SHIFTS[name]
    fixed = shift.with_default if limits is None else {}
    return {
        "shift": name,
        "seed": seed,
        "range": {shift.strength: list(limits or shift.default_range)},
        "meaning": {shift.strength: shift.meaning},
        **({"with_default": dict(fixed)} if fixed else {}),
        "source": str(folder.resolve()),
        "versions": {"nnunet_stochastic": __version__, **{library: version(library) for library in _LIBRARIES}},
        "cases": {
            case: {
                "parameters": draw_parameters(name, limits, stream_seed("corruption", seed, name, case)),
                **finding,
            }
            for case, finding in findings.items()
        },
    }


def _check_same_settings(file: Path, manifest: dict[str, Any]) -> None:
    """Raise if an earlier call has written a manifest with which this one disagrees."""
    if not file.is_file():
        return
    earlier = read_json(file, CorruptionManifest, remedy=f"remove the folder {file.parent}, or choose another -o")
    different = [key for key in manifest if key not in ("source", "cases") and earlier.get(key) != manifest[key]]
    different += [case for case, entry in earlier["cases"].items() if manifest["cases"].get(case) != entry]
    if different:
        raise ValueError(
            f"{file.parent} was begun with other settings or images, as {file.name} says of: {', '.join(different)}; "
            "continue with those, or choose another -o"
        )


def _is_complete(path: Path) -> bool:
    return is_whole(path) and has_right_checksums(path)


def _corrupt_case(
    case: ImageCase, folders: Mapping[str, Path], parameters: Mapping[str, dict[str, Any]], complete: Collection[str]
) -> dict[str, _Left]:
    """Write the files of a case for several shifts, each into its folder; what is left of the image in each.

    Those of ``complete`` shifts are only read.
    """
    images = [read_stored_image(file) for file in case.files]
    labels = None if case.labels is None else _read_labels(case.labels, case.files[0], images[0])
    left = {}
    for name, folder in folders.items():
        if name in complete:
            copies = [read_stored_image(folder / file.name).values for file in case.files]
        else:
            copies = _write_case(case, images, folder, name, parameters[name])
        contrasts = [
            kept_contrast(before, after, labels, axis=image.slice_axis)
            for image, copy in zip(images, copies, strict=True)
            for before, after in zip(image.values, copy, strict=True)
        ]
        unchanged = all(is_unchanged(image.values, copy) for image, copy in zip(images, copies, strict=True))
        kept = None if np.isnan(contrasts).all() else round(float(np.nanmax(contrasts)), 4)
        left[name] = _Left(kept, is_gone(contrasts), unchanged)
    return left


def _write_case(
    case: ImageCase, images: Sequence[StoredImage], folder: Path, name: str, parameters: dict[str, Any]
) -> list[np.ndarray]:
    """Write the files of a case for a shift; the values (C, z, y, x) of each, as they are stored."""
    copies = []
    with staged_files(folder, [Path(file.name) for file in case.files], name=case.name) as staging:
        channel = 0
        for file, image in zip(case.files, images, strict=True):
            copies.append(corrupt_image(image, name, parameters, first_channel=channel))
            image.write(copies[-1], staging / file.name)
            copies[-1] = image.as_stored(copies[-1])
            channel += len(image.values)
            if spacing_file(file).is_file() and file.suffix in (".tif", ".tiff"):
                shutil.copyfile(spacing_file(file), staging / spacing_file(file).name)
    return copies


def _read_labels(path: Path, image_path: Path, image: StoredImage) -> np.ndarray:
    """A label map (z, y, x), integer, on the grid of an image."""
    found = read_stored_image(path)
    shape, image_shape = found.values.shape, image.values.shape
    check_same_grid(path, shape[1:], found.grid, image_path, image_shape[1:], image.grid)
    values = found.values
    if len(values) != 1 or values.min() < 0 or values.max() >= 2**16 or (values != np.rint(values)).any():
        raise ValueError(f"{path} is no label map: one channel of whole numbers from 0 to 65535 is needed")
    return values[0].astype(np.uint16)
