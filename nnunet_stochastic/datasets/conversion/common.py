"""What the converters share: planned cases, their parts, the vote of the raters, reading and writing.

A `Conversion` plans everything before anything is written; its sources are converted one by one, each to cases
(x, y, y_1 … y_A). The label y is the vote of the raters y_1 … y_A at each voxel: the class with the most votes. Of
classes with as many votes foreground comes before background, then the lowest label, where ``Ties`` does not say
otherwise. For two classes this is the majority with ties to foreground.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk
from nibabel.nifti1 import Nifti1Header

from nnunet_stochastic.io.images import check_image_file
from nnunet_stochastic.io.itk import itk_reason
from nnunet_stochastic.io.names import check_names
from nnunet_stochastic.io.nifti import is_nifti, read_nifti_header, written_by_library
from nnunet_stochastic.io.staging import staged_files

__all__ = [
    "TEST",
    "TRAIN",
    "VALIDATION",
    "Conversion",
    "ConvertedCase",
    "Skipped",
    "Source",
    "Ties",
    "convert_source",
    "draw",
    "fifth",
    "label_file",
    "label_image",
    "majority_vote",
    "part_suffix",
    "read_header",
    "read_itk_image",
    "read_on_grid",
    "reasons",
]

Ties = Literal["lowest", "highest", "background"]
TRAIN, VALIDATION, TEST = "train", "val", "test"
_SUFFIXES = {TRAIN: "Tr", VALIDATION: "Tr", TEST: "Ts"}
_SHOWN_REASONS = 20
_GRID_TOLERANCE = 1e-3  # mm, and of direction cosines: NIfTI files keep them in single precision


@dataclass(frozen=True)
class ConvertedCase:
    """One converted case.

    Attributes
    ----------
    name
        Name of the case.
    images
        Images, one per channel; a path is copied as it is.
    label
        Label map that nnU-Net plans and validates on.
    raters
        Label maps, one per rater, or none.
    """

    name: str
    images: Sequence[sitk.Image | Path]
    label: sitk.Image
    raters: Sequence[sitk.Image] = ()


@dataclass(frozen=True)
class Source:
    """What is read at once, and the cases that come of it.

    Attributes
    ----------
    name
        Name that the data set gives it.
    cases
        Part of each case: ``train``, ``val``, ``test``, or the name of another set, such as ``OOD_Bosch``.
    data
        Data that the converter has to know; picklable.
    patient
        Patient whom all its cases show; the source's own name where the data set does not tell patients apart.
    files
        Files that are read, as far as they are known: where one has changed, the cases are converted again.
    """

    name: str
    cases: Mapping[str, str]
    data: Any
    patient: str
    files: Sequence[Path] = ()


@dataclass(frozen=True)
class Skipped:
    """What is left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Conversion:
    """Everything that is known before a file is written.

    Attributes
    ----------
    dataset_name
        Name of the dataset, DatasetNNN_Name.
    settings
        Settings that decide about the result; a dataset with others is not continued.
    description
        Content of dataset.json without ``numTraining`` and ``name``.
    sources
        Sources to convert.
    convert
        Function that gives the cases of a source, as many as its ``cases`` names; module-level, so that processes can
        run it. ``ValueError`` and ``OSError`` skip the source.
    skipped
        Sources and cases that are left out for reasons that are known by now.
    notes
        Lines to print: the rule that was followed and its counts.
    configuration, planner
        Names of a configuration and a planner of nnU-Net, suggested for this data set.
    files_per_image
        Number of files of an image; None: as many as channels.
    parts, patients
        Part and patient of each case.
    """

    dataset_name: str
    settings: Mapping[str, Any]
    description: Mapping[str, Any]
    sources: Sequence[Source]
    convert: Callable[[Source], Iterator[ConvertedCase]]
    skipped: Sequence[Skipped] = ()
    notes: Sequence[str] = ()
    configuration: str = "3d_fullres"
    planner: Literal["ExperimentPlanner", "nnUNetPlannerResEncM", "nnUNetPlannerResEncL"] = "nnUNetPlannerResEncM"
    files_per_image: int | None = None
    parts: Mapping[str, str] = field(init=False)
    patients: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        parts = {name: part for source in self.sources for name, part in source.cases.items()}
        if len(parts) < sum(len(source.cases) for source in self.sources):
            names = [name for source in self.sources for name in source.cases]
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"case names occur more than once: {', '.join(twice)}; rename the files")
        check_names(parts, "the data set")
        object.__setattr__(self, "parts", parts)
        patients = {name: source.patient for source in self.sources for name in source.cases}
        object.__setattr__(self, "patients", patients)

    @property
    def ending(self) -> str:
        """Of all files."""
        return self.description["file_ending"]


def part_suffix(part: str) -> str:
    """What the folders of a part end on: imagesTr, imagesTs, imagesOOD_Bosch."""
    return _SUFFIXES.get(part, part)


def label_file(dataset: Path, name: str, part: str, ending: str) -> Path:
    """The file that is written last: a case is complete if it exists."""
    return dataset / f"labels{part_suffix(part)}" / f"{name}{ending}"


def fifth(count: int) -> int:
    """20 % of a count, rounded up."""
    return -(-count // 5)


def reasons(skipped: Sequence[Skipped]) -> str:
    """What was left out and why, a line each, for a message; of many the first."""
    lines = [f"\n  {skip.name}: {skip.reason}" for skip in skipped[:_SHOWN_REASONS]]
    more = len(skipped) - len(lines)
    return "".join(lines) + (f"\n  and {more} more" if more else "")


def draw(
    names: Sequence[str], count: int, random: np.random.Generator, *, skipped: Sequence[Skipped] = ()
) -> tuple[list[str], list[str]]:
    """Names drawn at random, and the rest, both sorted; the order of ``names`` has no influence.

    ``skipped`` is what was left out before, which a message about too few names lists.
    """
    names = sorted(names)
    if not 0 < count < len(names):
        raise ValueError(
            f"cannot split {len(names)} into {count} and at least one other; more data are needed"
            + (f"; was skipped:{reasons(skipped)}" if skipped else "")
        )
    order = random.permutation(len(names))
    return sorted(names[i] for i in order[:count]), sorted(names[i] for i in order[count:])


def majority_vote(raters: np.ndarray, num_classes: int, *, ties: Ties = "lowest") -> np.ndarray:
    """The vote at each voxel, as the module says.

    Parameters
    ----------
    raters
        Labels, integers or bool (A, *S).
    num_classes
        Number C of classes; labels are 0 to C - 1.
    ties
        Class that wins of those with as many votes: the lowest or the highest label in front of background, or
        background in front of the lowest.

    Returns
    -------
    ndarray
        uint8, (*S).
    """
    foreground = range(1, num_classes)
    order = {"lowest": (*foreground, 0), "highest": (*reversed(foreground), 0), "background": (0, *foreground)}[ties]
    winner = np.zeros(raters.shape[1:], np.uint8)
    most = np.zeros(raters.shape[1:], np.int16)
    for label in order:  # of equal ones the first stays
        votes = (raters == label).sum(0)
        wins = votes > most
        winner[wins] = label
        most[wins] = votes[wins]
    return winner


def read_header(path: Path) -> sitk.ImageFileReader:
    """Geometry and tags of an image; ``OSError`` if it cannot be read."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:  # what SimpleITK raises for everything
        raise OSError(f"{path} cannot be read: {itk_reason(error)}") from error
    return reader


def read_itk_image(path: Path) -> sitk.Image:
    """An image; ``OSError`` or ``ValueError`` if it cannot be read or is refused by ``check_image_file``."""
    check_image_file(path)
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise OSError(f"{path} cannot be read: {itk_reason(error)}") from error


def read_on_grid(path: Path, reference: sitk.Image | sitk.ImageFileReader) -> np.ndarray:
    """Voxels (z, y, x) of an image; ``ValueError`` if its voxel grid is not the reference's."""
    image = read_itk_image(path)
    if image.GetSize() != tuple(reference.GetSize()):
        raise ValueError(f"{path} has {image.GetSize()} voxels (x, y, z), the image {tuple(reference.GetSize())}")
    for what in ("Spacing", "Origin", "Direction"):
        found, expected = (getattr(grid, f"Get{what}")() for grid in (image, reference))
        if not np.allclose(found, expected, rtol=0, atol=_GRID_TOLERANCE):
            raise ValueError(f"{path} has {what.lower()} {found}, the image {expected}")
    return sitk.GetArrayFromImage(image)


def label_image(labels: np.ndarray, reference: sitk.Image | sitk.ImageFileReader | None = None) -> sitk.Image:
    """A label map as an image of uint8, on the grid of the reference."""
    image = sitk.GetImageFromArray(labels.astype(np.uint8))
    if reference is not None:
        image.SetSpacing(reference.GetSpacing())
        image.SetOrigin(reference.GetOrigin())
        image.SetDirection(reference.GetDirection())
    return image


def convert_source(
    source: Source, *, convert: Callable[[Source], Iterator[ConvertedCase]], dataset: Path, ending: str
) -> Skipped | None:
    """Write the cases of a source; what cannot be read is skipped, what cannot be written raises."""
    cases = convert(source)
    while True:
        try:
            case = next(cases, None)
        except (ValueError, OSError) as error:
            return Skipped(source.name, str(error))
        if case is None:
            return None
        _write_case(case, part_suffix(source.cases[case.name]), dataset, ending)


def _write_case(case: ConvertedCase, suffix: str, dataset: Path, ending: str) -> None:
    """Write all files of a case, or none that counts: the label comes last."""
    names: dict[str, sitk.Image | Path] = {
        f"images{suffix}/{case.name}_{channel:04d}{ending}": image for channel, image in enumerate(case.images)
    }
    names |= {f"raters{suffix}/{case.name}_rater{rater}{ending}": mask for rater, mask in enumerate(case.raters)}
    names[f"labels{suffix}/{case.name}{ending}"] = case.label
    copies = [Path(name) for name, content in names.items() if isinstance(content, Path)]
    header = next(
        (read_nifti_header(image) for image in case.images if isinstance(image, Path) and is_nifti(image)), None
    )
    with staged_files(dataset, list(map(Path, names)), name=case.name, copies=copies) as staging:
        for name, content in names.items():
            if isinstance(content, Path):
                shutil.copyfile(content, staging / name)
            else:
                _write_image(content, staging / name, dataset / name, header)


def _write_image(image: sitk.Image, staged: Path, final: Path, header: Nifti1Header | None) -> None:
    try:
        with written_by_library(staged, header, by_itk=True) as path:
            sitk.WriteImage(image, str(path), True)
    except RuntimeError as error:
        raise OSError(f"{final} cannot be written: {itk_reason(error)}") from error
