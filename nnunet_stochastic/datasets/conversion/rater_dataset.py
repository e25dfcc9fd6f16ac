"""One's own images and raters' masks as an nnU-Net dataset.

A case is x(C, z, y, x), y_1 … y_A ∈ {0 … L}. The label y is made of the raters at each voxel by a `Rule`:

    majority       the class with the most votes, ties by `Ties`
    union          background where all say so, else the foreground class with the most votes, ties by `Ties`
    intersection   background where any rater says so, else as union
    first          the first rater's

Values of the masks become 0, 1, 2 … in the order of ``labels``. Test cases come from folders of their own, or are
drawn, a fifth of the patients; so are validation cases, of the others. All files are read and checked before one is
written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

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
    Ties,
    draw,
    fifth,
    label_image,
    majority_vote,
    read_header,
    read_itk_image,
    read_on_grid,
    reasons,
)
from nnunet_stochastic.datasets.conversion.rater_files import ENDINGS, find_images, find_masks, without_ending
from nnunet_stochastic.datasets.conversion.run import dataset_name
from nnunet_stochastic.evaluation.parallel import map_in_processes
from nnunet_stochastic.io.images import check_image_file
from nnunet_stochastic.io.names import counted, shown
from nnunet_stochastic.patients import read_patients

__all__ = ["RaterFolders", "Rule", "Vote", "plan_rater_dataset", "vote"]

Rule = Literal["majority", "union", "intersection", "first"]
_MOST_LABELS = 256  # label maps are written as uint8
_MANY_VALUES = 64  # masks with more are images, or have been resampled as such
_TIES = {
    "lowest": "the lowest foreground label",
    "highest": "the highest foreground label",
    "background": "background, then to the lowest label",
}


@dataclass(frozen=True)
class RaterFolders:
    """Where images and the masks of their raters are, see ``rater_files``."""

    images: Path
    raters: Sequence[Path]


@dataclass(frozen=True)
class Vote:
    """How a label is made of the raters."""

    rule: Rule = "majority"
    ties: Ties = "lowest"

    def __post_init__(self) -> None:
        for value, kind in ((self.rule, Rule), (self.ties, Ties)):
            if value not in get_args(kind):
                raise ValueError(f"{shown(value)} must be one of {', '.join(get_args(kind))}")

    def __str__(self) -> str:
        if self.rule == "first":
            return "the first rater's mask"
        what = {
            "majority": "the class with most votes at a voxel",
            "union": "foreground where at least one rater says so, of several classes the one with most votes",
            "intersection": "foreground where all raters say so, of several classes the one with most votes",
        }[self.rule]
        return f"{what}; ties to {_TIES[self.ties]}"


@dataclass(frozen=True)
class _Files:
    images: tuple[Path, ...]
    masks: tuple[Path, ...]


@dataclass(frozen=True)
class _Found:
    """What reading a case has shown: values of its masks, size and colours of its image, and what is wrong."""

    values: tuple[int, ...] = ()
    size: tuple[int, ...] = ()
    num_colours: int = 0
    problems: tuple[str, ...] = ()
    of_masks: tuple[frozenset[int], ...] = ()


def vote(raters: np.ndarray, num_classes: int, how: Vote) -> np.ndarray:
    """The label at each voxel, as the module says.

    Parameters
    ----------
    raters
        Labels, integers (A, *S).
    num_classes
        Number C of classes; labels are 0 to C - 1.
    how
        Rule and ties.

    Returns
    -------
    ndarray
        uint8, (*S).
    """
    if how.rule == "first":
        return raters[0].astype(np.uint8)
    if how.rule == "majority":
        return majority_vote(raters, num_classes, ties=how.ties)
    # Class -1 has no votes, so background wins only where nobody saw anything.
    foreground = majority_vote(np.where(raters == 0, -1, raters.astype(np.int16)), num_classes, ties=how.ties)
    if how.rule == "intersection":
        foreground[(raters == 0).any(axis=0)] = 0
    return foreground


def plan_rater_dataset(
    training: RaterFolders,
    number: int,
    *,
    name: str,
    channel_names: Sequence[str],
    labels: Mapping[str, int] | None = None,
    how: Vote = Vote(),
    test: RaterFolders | None = None,
    num_test: int | None = None,
    groups: Path | None = None,
    seed: int = 0,
    num_processes: int = 1,
    show_progress: bool = False,
) -> Conversion:
    """Find the cases, read and check all their files, and split them.

    Parameters
    ----------
    training
        Images and masks to train and validate on, and to test on where ``test`` is not given.
    number, name
        The dataset is DatasetNUMBER_NAME.
    channel_names
        Names of the image's channels in nnU-Net, which normalises a channel called CT by its own rule.
    labels
        Value in the masks of each class, in the order of the new labels 0, 1 …, background (0) the first; default: the
        values that are found.
    how
        How labelsTr is made of the raters.
    test
        Images and masks to test on.
    num_test
        Number of patients drawn for testing, 0 for none; default: a fifth.
    groups
        Table ``case,patient``; by default each case is of a patient of its own.
    seed
        Seed of the draws.
    num_processes, show_progress
        Processes that read, and whether a bar shows how far they are.

    Raises
    ------
    ValueError, OSError
        Anything is wrong with any of the files; a message lists all of it.
    """
    if test is not None and num_test is not None:
        raise ValueError("test cases are either in a folder of their own (-i_test) or drawn (-num_test), not both")
    folders = {TRAIN: training, **({} if test is None else {TEST: test})}
    files, raters = _find_files(folders, len(channel_names))
    patients = _patients(files, groups)
    parts = _draw_parts(
        {case: TEST if case in _names(files, test) else TRAIN for case in files}, patients, num_test, seed
    )
    found = dict(
        zip(
            files,
            map_in_processes(
                _read,
                list(files.values()),
                num_processes=num_processes,
                description="checking images and masks",
                show_progress=show_progress,
            ),
            strict=True,
        )
    )
    _require_sound(found, len(channel_names))
    if labels is None:
        _check_same_values(found, raters)
    labels = _check_labels(labels, found)
    first = next(iter(files.values())).images
    ending = next(ending for ending in ENDINGS if first[0].name.lower().endswith(ending))
    ending = ".nii.gz" if ending == ".nii" else ending
    is_flat = all(len(result.size) == 2 or min(result.size) == 1 for result in found.values())
    values, counts = list(labels.values()), Counter(parts.values())
    return Conversion(
        dataset_name(number, name),
        {
            "converter": "make_rater_dataset",
            "folders": {
                part: [str(where.images.resolve()), *(str(folder.resolve()) for folder in where.raters)]
                for part, where in folders.items()
            },
            "raters": raters,
            "channel_names": list(channel_names),
            "labels": dict(labels),
            "vote": how.rule,
            "ties": how.ties,
            "num_test": num_test,
            "seed": seed,
        },
        {
            "channel_names": {str(channel): text for channel, text in enumerate(channel_names)},
            "labels": {label: index for index, label in enumerate(labels)},
            "file_ending": ending,
            "num_raters": len(raters),
            "description": f"labels: {how}; raters 0 to {len(raters) - 1}: {', '.join(raters)}",
        },
        [
            Source(case, {case: parts[case]}, found, patients[case], (*found.images, *found.masks))
            for case, found in files.items()
        ],
        partial(_convert, values=values, how=how, ending=ending),
        (),
        (
            f"{counted(len(files), 'case')} with {counted(len(raters), 'rater')} each ({', '.join(raters)}): "
            + ", ".join(f"{counts[part]} {part}" for part in (TRAIN, VALIDATION, TEST)),
            f"classes: {', '.join(f'{new} {text} ({labels[text]} in the masks)' for new, text in enumerate(labels))}",
            f"label: {how}",
            counted(len(set(patients.values())), "patient")
            + ("" if groups else ": each case counts as one; a table case,patient (--groups) keeps patients together"),
        ),
        "2d" if is_flat else "3d_fullres",
        "ExperimentPlanner",
        len(first),
    )


def _find_files(folders: Mapping[str, RaterFolders], num_channels: int) -> tuple[dict[str, _Files], list[str]]:
    files: dict[str, _Files] = {}
    of_part: dict[str, list[str]] = {}
    for part, where in folders.items():
        images = find_images(where.images, num_channels)
        raters, masks = find_masks(where.raters, images)
        if twice := sorted(files.keys() & images.keys()):
            raise ValueError(f"cases are for training and for testing: {', '.join(twice)}; a case has one part")
        if of_part and len(raters) != len(of_part[TRAIN]):
            raise ValueError(
                f"training cases have {len(of_part[TRAIN])} raters ({', '.join(of_part[TRAIN])}), test cases "
                f"{len(raters)} ({', '.join(raters)}); give both the same number"
            )
        of_part[part] = raters
        files |= {case: _Files(images[case], masks[case]) for case in images}
    endings = {file.name[len(without_ending(file)) :].lower() for entry in files.values() for file in entry.images}
    if len(endings) > 1:
        raise ValueError(
            f"images for training and for testing end on {' and on '.join(sorted(endings))}; store all alike"
        )
    return files, of_part[TRAIN]


def _names(files: Mapping[str, _Files], folders: RaterFolders | None) -> set[str]:
    """Cases whose images are in a folder."""
    return {case for case, entry in files.items() if folders and entry.images[0].parent == folders.images}


def _patients(cases: Mapping[str, object], groups: Path | None) -> dict[str, str]:
    return {case: case for case in cases} if groups is None else read_patients(groups, cases)


def _read(files: _Files) -> _Found:
    """Read all files of a case to their ends."""
    problems: list[str] = []
    values: set[int] = set()
    of_masks: list[frozenset[int]] = []
    try:
        for image in files.images:
            check_image_file(image)
            read_on_grid(image, read_header(files.images[0]))
        header = read_header(files.images[0])
    except (ValueError, OSError) as error:
        return _Found(problems=(str(error),))
    for mask in files.masks:
        try:
            found = np.unique(_read_mask(mask, header))
        except (ValueError, OSError) as error:
            problems.append(str(error))
            continue
        whole = found.astype(np.int64)
        if not (
            np.array_equal(whole, found) and len(found) <= _MANY_VALUES and 0 <= whole.min() <= whole.max() < 2**16
        ):
            problems.append(
                f"{mask} holds {len(found)} values, such as {', '.join(f'{value:g}' for value in found[:5])}: no labels"
            )
        else:
            values.update(whole.tolist())
            of_masks.append(frozenset(whole.tolist()))
    return _Found(
        tuple(sorted(values)), header.GetSize(), header.GetNumberOfComponents(), tuple(problems), tuple(of_masks)
    )


def _read_mask(path: Path, header: sitk.ImageFileReader) -> np.ndarray:
    array = read_on_grid(path, header)
    if array.ndim != header.GetDimension():
        raise ValueError(f"{path} holds colours or vectors; store one number per voxel")
    return array


def _require_sound(found: Mapping[str, _Found], num_channels: int) -> None:
    wrong = [Skipped(case, problem) for case, result in found.items() for problem in result.problems]
    axes = Counter(len(result.size) for result in found.values() if result.size)
    usual = max(axes, key=lambda count: axes[count], default=0)
    for case, result in found.items():
        if result.problems:
            continue
        if len(result.size) != usual or usual not in (2, 3):
            wrong.append(Skipped(case, f"has {len(result.size)} axes; all images must have 2, or all of them 3"))
        # Colours are channels of a PNG, the only format of 2D images here that has them.
        elif result.num_colours not in (1, num_channels):
            wrong.append(Skipped(case, f"has {result.num_colours} colours, and --channel_names names {num_channels}"))
    if wrong:
        raise ValueError(f"nothing was written, because of these problems:{reasons(wrong)}")


def _check_same_values(found: Mapping[str, _Found], raters: Sequence[str]) -> None:
    """Raise where raters have no class in common: one may write 255 for what others write 1 for."""
    of_raters = {
        rater: {value for result in found.values() for value in result.of_masks[index] if value}
        for index, rater in enumerate(raters)
    }
    drawn = {rater: values for rater, values in of_raters.items() if values}
    first = next(iter(drawn), None)
    for rater, values in drawn.items():
        if first is not None and not values & drawn[first]:
            said = "; ".join(f"{name}: {', '.join(map(str, sorted(has)))}" for name, has in drawn.items())
            raise ValueError(
                f"{first} and {rater} use different values ({said}): store a class as the same value by all raters, or "
                "name the classes with --labels NAME=VALUE if they are different ones"
            )


def _check_labels(labels: Mapping[str, int] | None, found: Mapping[str, _Found]) -> dict[str, int]:
    """Value of each class in the masks, background the first."""
    values = sorted({value for result in found.values() for value in result.values})
    if labels is None:
        if 0 not in values or len(values) < 2:
            raise ValueError(
                f"the masks hold {', '.join(map(str, values))}: background is 0, and a class beside it is needed; name "
                "the classes with --labels NAME=VALUE"
            )
        names = ["foreground"] if len(values) == 2 else [f"class_{value}" for value in values[1:]]
        labels = {"background": 0, **dict(zip(names, values[1:], strict=True))}
    labels = {"background": 0, **labels}
    if labels["background"] != 0 or len(set(labels.values())) < len(labels) or min(labels.values()) < 0:
        raise ValueError(
            f"--labels {' '.join(f'{name}={value}' for name, value in labels.items())}: background is 0, and each "
            "class has a value of its own above it"
        )
    if not 2 <= len(labels) <= _MOST_LABELS:
        raise ValueError(f"--labels must name 1 to {_MOST_LABELS - 1} classes beside background, got {len(labels) - 1}")
    known = set(labels.values())
    wrong = [
        Skipped(
            case, f"masks hold {', '.join(map(str, sorted(set(result.values) - known)))}, which --labels does not name"
        )
        for case, result in found.items()
        if set(result.values) - known
    ]
    if wrong:
        raise ValueError(f"nothing was written, because of these problems:{reasons(wrong)}")
    if absent := [name for name, value in labels.items() if value not in values]:
        raise ValueError(
            f"no mask holds {', '.join(f'{name} ({labels[name]})' for name in absent)}; --labels names values of the "
            f"masks, which are {', '.join(map(str, values))}"
        )
    return labels


def _draw_parts(parts: dict[str, str], patients: Mapping[str, str], num_test: int | None, seed: int) -> dict[str, str]:
    """Parts of the cases: patients are drawn, and all cases of one go the same way."""
    random = np.random.default_rng(seed)
    both = {patients[c] for c, p in parts.items() if p == TEST} & {patients[c] for c, p in parts.items() if p == TRAIN}
    if both:
        raise ValueError(f"patients are in the training and in the test images: {', '.join(sorted(both))}")
    has_test = TEST in parts.values()
    training = {patients[case] for case, part in parts.items() if part == TRAIN}
    num_drawn = 0 if has_test else fifth(len(training)) if num_test is None else num_test
    if len(training) < num_drawn + 2:
        for_testing = "" if has_test else f", {num_drawn or 'none'} for testing"
        raise ValueError(
            f"{counted(len(training), 'patient')} to draw from, at least {num_drawn + 2} are needed: one for training, "
            f"one for validation{for_testing}; each case is a patient unless --groups says otherwise"
        )
    for part in (TEST, VALIDATION):
        left = sorted({patients[case] for case, current in parts.items() if current == TRAIN})
        count = fifth(len(left)) if part == VALIDATION or num_test is None else num_test
        if part == TEST and (has_test or count == 0):
            continue
        drawn = set(draw(left, count, random)[0])
        parts = {c: part if p == TRAIN and patients[c] in drawn else p for c, p in parts.items()}
    return parts


def _convert(source: Source, *, values: Sequence[int], how: Vote, ending: str) -> Iterator[ConvertedCase]:
    files: _Files = source.data
    header = read_header(files.images[0])
    new_label = np.zeros(max(values) + 1, np.uint8)
    new_label[list(values)] = np.arange(len(values))
    raters = np.stack([_read_mask(path, header) for path in files.masks])
    if strange := set(np.unique(raters)) - set(values):  # checked before: a file has changed since
        raise ValueError(
            f"masks hold {', '.join(f'{value:g}' for value in sorted(strange))}, which --labels does not name"
        )
    raters = new_label[raters.astype(np.int64)]
    (case,) = source.cases
    yield ConvertedCase(
        case,
        [path if path.name.endswith(ending) else read_itk_image(path) for path in files.images],
        label_image(vote(raters, len(values), how), header),
        [label_image(rater, header) for rater in raters],
    )
