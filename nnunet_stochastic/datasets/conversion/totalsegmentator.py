"""TotalSegmentator as an nnU-Net dataset: one or more structures in CT, in those scans that show them.

A case is x(z, y, x) in HU and y = k in the k-th structure, 0 elsewhere. Scans in which no voxel belongs to any of the
structures are left out. A fifth of the others are test cases, a fifth of the rest validation cases (fifths are rounded
up). Nothing that is published says which scans are of one patient, so each counts as a patient of its own.

Wasserthal et al., Radiology: Artificial Intelligence 5(5) (2023), data set version 2. Selection and split:
Structured Covariance Modeling Using Learned Mixture-of-Bases for Uncertainty in 3D Segmentation, section 4. The numbers
of its Table 1 for pancreas, gallbladder and adrenal gland are fifths of 811, 655 and 800 scans if its column "Train"
includes the validation cases.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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
    read_header,
    read_on_grid,
)
from nnunet_stochastic.datasets.conversion.run import dataset_name
from nnunet_stochastic.evaluation.parallel import map_in_processes
from nnunet_stochastic.io.images import check_image_file
from nnunet_stochastic.io.names import counted
from nnunet_stochastic.io.tables import read_csv_table

__all__ = ["MIXTURE_OF_BASES_TABLE_1", "plan_totalsegmentator"]

# Training, validation and test scans as printed.
MIXTURE_OF_BASES_TABLE_1 = {
    "pancreas": (648, 130, 163),
    "gallbladder": (524, 105, 131),
    "duodenum": (614, 154, 154),
    "adrenal_gland_left": (640, 128, 160),
}


@dataclass(frozen=True)
class _Scan:
    folder: Path
    structures: tuple[str, ...]

    def mask(self, structure: str) -> Path:
        return self.folder / "segmentations" / f"{structure}.nii.gz"

    def files(self) -> list[Path]:
        return [self.folder / "ct.nii.gz", *filter(Path.is_file, map(self.mask, self.structures))]


def plan_totalsegmentator(
    folder: Path,
    number: int,
    structures: Sequence[str],
    *,
    seed: int = 0,
    num_processes: int = 1,
    show_progress: bool = False,
) -> Conversion:
    """Find the scans that show the structures, and split them.

    Parameters
    ----------
    folder
        Folder that holds a folder per scan, s0000 and so on, and meta.csv.
    number
        Number of the dataset, NNN.
    structures
        Names of the files in segmentations, without ending; the first is label 1.
    seed
        Seed of the split.
    num_processes
        Number of scans at a time.
    show_progress
        Whether to draw a progress bar.
    """
    if repeated := [name for name, count in Counter(structures).items() if count > 1]:
        raise ValueError(f"structures are given more than once: {', '.join(repeated)}")
    scans = [_Scan(path.parent, tuple(structures)) for path in sorted(folder.glob("*/ct.nii.gz"))]
    if not scans:
        raise ValueError(f"{folder} has no scan; -i is the folder that holds s0000/ct.nii.gz and so on")
    _check_structures(scans, structures)
    listed = _listed_scans(folder / "meta.csv")
    found = {scan.folder.name for scan in scans}
    skipped = [Skipped(name, "in meta.csv, but its ct.nii.gz is missing") for name in listed or () if name not in found]
    reasons = list(
        map_in_processes(
            _reason_to_skip, scans, num_processes=num_processes, description="scans", show_progress=show_progress
        )
    )
    skipped += [Skipped(scan.folder.name, reason) for scan, reason in zip(scans, reasons, strict=True) if reason]
    visible = {scan.folder.name: scan for scan, reason in zip(scans, reasons, strict=True) if not reason}
    random = np.random.default_rng(seed)
    test, others = draw(list(visible), fifth(len(visible)), random, skipped=skipped)
    validation, training = draw(others, fifth(len(others)), random, skipped=skipped)
    parts = dict.fromkeys(test, TEST) | dict.fromkeys(validation, VALIDATION) | dict.fromkeys(training, TRAIN)
    return Conversion(
        dataset_name(number, f"TotalSegmentator_{'_'.join(structures)}"),
        {
            "converter": "TotalSegmentator",
            "folder": str(folder.resolve()),
            "structures": list(structures),
            "seed": seed,
        },
        {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0} | {name: label for label, name in enumerate(structures, start=1)},
            "file_ending": ".nii.gz",
            "reference": "Wasserthal et al., TotalSegmentator, Radiology: Artificial Intelligence 5(5), 2023",
            "licence": "CC BY 4.0",
        },
        [Source(name, {name: parts[name]}, scan, name, scan.files()) for name, scan in sorted(visible.items())],
        _convert,
        skipped,
        _notes(structures, len(scans), None if listed is None else len(listed), training, validation, test),
        planner="nnUNetPlannerResEncL",
    )


def _check_structures(scans: Sequence[_Scan], structures: Sequence[str]) -> None:
    known = sorted(path.name.removesuffix(".nii.gz") for path in scans[0].mask("*").parent.glob("*.nii.gz"))
    if unknown := [name for name in structures if not any(scan.mask(name).is_file() for scan in scans)]:
        raise ValueError(f"no scan has a file of {', '.join(unknown)}; {scans[0].folder.name} has {', '.join(known)}")


def _listed_scans(file: Path) -> list[str] | None:
    """All scans of the data set, by its table; None if that is not there."""
    if not file.is_file():
        return None
    table = read_csv_table(file, remedy="restore it from the data set, or remove it", delimiter=";")
    return [values[0] for _, values in table.lines]


def _reason_to_skip(scan: _Scan) -> str:
    """Why a scan is left out; empty if it is not."""
    if missing := [name for name in scan.structures if not scan.mask(name).is_file()]:
        return f"has no file of {', '.join(missing)}"
    try:
        header = read_header(scan.folder / "ct.nii.gz")
        if any(read_on_grid(scan.mask(name), header).any() for name in scan.structures):
            return ""
    except (ValueError, OSError) as error:
        return str(error)
    return f"does not show {' or '.join(scan.structures)}"


def _convert(source: Source) -> Iterator[ConvertedCase]:
    scan: _Scan = source.data
    image = scan.folder / "ct.nii.gz"
    check_image_file(image)
    header = read_header(image)
    labels = np.zeros(tuple(reversed(header.GetSize())), np.uint8)
    for label, name in enumerate(scan.structures, start=1):
        mask = read_on_grid(scan.mask(name), header) != 0
        if count := np.count_nonzero(labels[mask]):
            raise ValueError(f"{scan.mask(name)} shares {count} voxels with another structure")
        labels[mask] = label
    (case,) = source.cases
    yield ConvertedCase(case, (image,), label_image(labels, header))


def _notes(
    structures: Sequence[str],
    num_scans: int,
    num_listed: int | None,
    training: Sequence[str],
    validation: Sequence[str],
    test: Sequence[str],
) -> list[str]:
    notes = [
        "there is no meta.csv, so it is unknown whether all scans are here"
        if num_listed is None
        else f"meta.csv lists {counted(num_listed, 'scan')}",
        f"{counted(num_scans, 'scan')}, {len(training) + len(validation) + len(test)} show {' or '.join(structures)}: "
        f"{len(training)} training, {len(validation)} validation, {len(test)} test",
    ]
    for name in structures:
        if name in MIXTURE_OF_BASES_TABLE_1:
            table = MIXTURE_OF_BASES_TABLE_1[name]
            notes.append(
                f"Mixture-of-Bases, Table 1, {name}: {table[0]} training, {table[1]} validation, {table[2]} test "
                "(its training scans seem to include the validation scans)"
            )
    return notes
