"""One's own images and raters' masks as an nnU-Net dataset.

A case is x(C, z, y, x), y_1 … y_A ∈ {0 … L}; its label y is made of the raters by a `rater_vote.Rule`. Values of the
masks become 0, 1, 2 … in the order of ``labels``. Test cases come from folders of their own, or are drawn, a fifth of
the patients; so are validation cases, of the others. All files are read and checked before one is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from nnunet_stochastic.datasets.conversion.common import (
    TEST,
    TRAIN,
    VALIDATION,
    Conversion,
    ConvertedCase,
    Source,
    draw,
    fifth,
    label_image,
    read_header,
    read_itk_image,
)
from nnunet_stochastic.datasets.conversion.rater_checks import (
    RaterCase,
    check_case,
    check_labels,
    check_same_values,
    read_mask,
    require_sound,
)
from nnunet_stochastic.datasets.conversion.rater_files import ENDINGS, find_images, find_masks, without_ending
from nnunet_stochastic.datasets.conversion.rater_vote import Vote, vote
from nnunet_stochastic.datasets.conversion.run import dataset_name
from nnunet_stochastic.evaluation.parallel import map_in_processes
from nnunet_stochastic.io.names import counted
from nnunet_stochastic.patients import read_patients

__all__ = ["RaterFolders", "plan_rater_dataset"]

_MAJORITY = Vote()


@dataclass(frozen=True)
class RaterFolders:
    """Where images and the masks of their raters are, see ``rater_files``."""

    images: Path
    raters: Sequence[Path]


def plan_rater_dataset(
    training: RaterFolders,
    number: int,
    *,
    name: str,
    channel_names: Sequence[str],
    labels: Mapping[str, int] | None = None,
    how: Vote = _MAJORITY,
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
                check_case,
                list(files.values()),
                num_processes=num_processes,
                description="checking images and masks",
                show_progress=show_progress,
            ),
            strict=True,
        )
    )
    require_sound(found, len(channel_names))
    if labels is None:
        check_same_values(found, raters)
    labels = check_labels(labels, found)
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


def _find_files(folders: Mapping[str, RaterFolders], num_channels: int) -> tuple[dict[str, RaterCase], list[str]]:
    files: dict[str, RaterCase] = {}
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
        files |= {case: RaterCase(images[case], masks[case]) for case in images}
    endings = {file.name[len(without_ending(file)) :].lower() for entry in files.values() for file in entry.images}
    if len(endings) > 1:
        raise ValueError(
            f"images for training and for testing end on {' and on '.join(sorted(endings))}; store all alike"
        )
    return files, of_part[TRAIN]


def _names(files: Mapping[str, RaterCase], folders: RaterFolders | None) -> set[str]:
    """Cases whose images are in a folder."""
    return {case for case, entry in files.items() if folders and entry.images[0].parent == folders.images}


def _patients(cases: Mapping[str, object], groups: Path | None) -> dict[str, str]:
    return {case: case for case in cases} if groups is None else read_patients(groups, cases)


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
    files: RaterCase = source.data
    header = read_header(files.images[0])
    new_label = np.zeros(max(values) + 1, np.uint8)
    new_label[list(values)] = np.arange(len(values))
    raters = np.stack([read_mask(path, header) for path in files.masks])
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
