"""CURVAS as an nnU-Net dataset: pancreas, kidney and liver in CT, each scan drawn by several radiologists.

A case is x(z, y, x) in HU, y_1 … y_A ∈ {0, pancreas 1, kidney 2, liver 3}. One folder per case holds image.nii.gz and
annotation_1.nii.gz … annotation_A.nii.gz, as the CURVAS challenges publish them. Validation and test cases come from
folders of their own where these are given; else a fifth of the cases is drawn for testing, a fifth of the others for
validation (fifths are rounded up). The challenges name no patients beside the cases, so each case
counts as one.

https://curvas.grand-challenge.org
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

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
    read_header,
    read_on_grid,
)
from nnunet_stochastic.datasets.conversion.run import dataset_name
from nnunet_stochastic.io.images import check_image_file
from nnunet_stochastic.io.names import counted

__all__ = ["plan_curvas"]

_CLASSES = {"background": 0, "pancreas": 1, "kidney": 2, "liver": 3}
_ANNOTATION = re.compile(r"annotation_(\d+)\.nii\.gz")


@dataclass(frozen=True)
class _Files:
    image: Path
    annotations: tuple[Path, ...]


def plan_curvas(
    folder: Path, number: int, *, validation: Path | None = None, test: Path | None = None, seed: int = 0
) -> Conversion:
    """Find the cases and split them.

    Parameters
    ----------
    folder
        Folder that holds a folder per case.
    number
        Number of the dataset, NNN.
    validation, test
        Folders of cases for validation and for testing; without them cases are drawn from ``folder``.
    seed
        Seed of the draw.
    """
    folders = {TRAIN: folder, VALIDATION: validation, TEST: test}
    found = {part: _find_cases(where) for part, where in folders.items() if where is not None}
    names = Counter(name for cases in found.values() for name in cases)
    if repeated := sorted(name for name, count in names.items() if count > 1):
        raise ValueError(f"cases are in more than one of the folders: {', '.join(repeated)}; a case has one part")
    counts = Counter(len(files.annotations) for cases in found.values() for files in cases.values())
    num_raters = max(counts, key=lambda number: (counts[number], number))
    if num_raters == 0:
        raise ValueError(f"no case in {folder} has a file annotation_1.nii.gz")
    skipped = []
    complete: dict[str, list[tuple[str, _Files]]] = {part: [] for part in folders}
    for part, cases in found.items():
        for name, files in cases.items():
            expected = [files.image.with_name(f"annotation_{n}.nii.gz") for n in range(1, num_raters + 1)]
            if files.annotations == tuple(expected):
                complete[part].append((name, files))
            else:
                present = ", ".join(path.name for path in files.annotations) or "no annotation"
                skipped.append(Skipped(name, f"has {present}; most cases have annotation_1 to annotation_{num_raters}"))
    random = np.random.default_rng(seed)
    parts = {name: part for part, cases in complete.items() for name, _ in cases}
    for part in (TEST, VALIDATION):
        if folders[part] is None:
            training = [name for name, where in parts.items() if where == TRAIN]
            parts |= dict.fromkeys(draw(training, fifth(len(training)), random, skipped=skipped)[0], part)
    sources = [
        Source(name, {name: parts[name]}, files, name, (files.image, *files.annotations))
        for cases in complete.values()
        for name, files in cases
    ]
    return Conversion(
        dataset_name(number, "CURVAS"),
        {
            "converter": "CURVAS",
            "folder": str(folder.resolve()),
            "validation": None if validation is None else str(validation.resolve()),
            "test": None if test is None else str(test.resolve()),
            "num_raters": num_raters,
            "seed": seed,
        },
        {
            "channel_names": {"0": "CT"},
            "labels": _CLASSES,
            "file_ending": ".nii.gz",
            "num_raters": num_raters,
            "reference": "CURVAS, https://curvas.grand-challenge.org",
        },
        sources,
        _convert,
        skipped,
        (
            f"{counted(len(sources), 'case')} with {counted(num_raters, 'annotation')} each: "
            + ", ".join(f"{count} {part}" for part, count in Counter(parts.values()).items()),
            "label: the class with most votes at a voxel; ties to foreground, then to the lowest label",
        ),
    )


def _find_cases(folder: Path) -> dict[str, _Files]:
    """Image and annotations of each case, the latter in order of their numbers."""
    cases = {}
    for image in sorted(folder.glob("*/image.nii.gz")):
        annotations = {
            int(match[1]): path for path in image.parent.iterdir() if (match := _ANNOTATION.fullmatch(path.name))
        }
        cases[image.parent.name] = _Files(image, tuple(annotations[n] for n in sorted(annotations)))
    if not cases:
        raise ValueError(f"{folder} has no case; it must hold a folder per case with image.nii.gz in it")
    return cases


def _convert(source: Source) -> Iterator[ConvertedCase]:
    files: _Files = source.data
    check_image_file(files.image)
    header = read_header(files.image)
    raters = np.stack([_read_annotation(path, header) for path in files.annotations])
    (case,) = source.cases
    yield ConvertedCase(
        case,
        (files.image,),
        label_image(majority_vote(raters, len(_CLASSES)), header),
        [label_image(rater, header) for rater in raters],
    )


def _read_annotation(path: Path, header: sitk.ImageFileReader) -> np.ndarray:
    labels = read_on_grid(path, header)
    if strange := sorted(set(np.unique(labels)) - set(_CLASSES.values())):
        raise ValueError(f"{path} has labels other than 0 to 3: {', '.join(f'{value:g}' for value in strange)}")
    return labels.astype(np.uint8)
