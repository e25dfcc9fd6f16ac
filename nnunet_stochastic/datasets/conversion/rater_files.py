"""Which files are the images of a case and which the masks of its raters, by their names alone.

IMAGES/case_0000.nii.gz, case_0001.nii.gz …     a file per channel, nnU-Net's naming
IMAGES/case.nii.gz                              or a file per case

RATERS/case_rater0.nii.gz, case_A.nii.gz …      what follows the case's name and "_" is the rater
RATERS/A/case.nii.gz, RATERS/B/case.nii.gz …    or a sub-folder per rater
A/case.nii.gz, B/case.nii.gz …                  or several folders, one per rater
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from nnunet_stochastic.io.names import check_names, is_apple_double

__all__ = ["ENDINGS", "find_images", "find_masks", "without_ending"]

#: What ITK reads without loss and nnU-Net's readers know; images that are stored as ``.nii`` become .nii.gz.
ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".gipl", ".png")
_CHANNEL = re.compile(r"(.+)_(\d{4})")
_SHOWN = 20


def without_ending(path: Path) -> str:
    """The name of an image or mask without its ending, one of `ENDINGS`."""
    return path.name[: -len(_ending_of(path))]


def find_images(folder: Path, num_channels: int) -> dict[str, tuple[Path, ...]]:
    """Image files of each case, channel by channel; a PNG may hold all channels as its colours.

    Raises
    ------
    ValueError
        There is no image; a name has a line break; endings differ; channels are missing, or there are more of them than
        ``num_channels``.
    """
    files = _files_in(folder)
    if not files:
        raise ValueError(f"{folder} has no image; it must hold files that end on {', '.join(ENDINGS)}")
    if len(endings := sorted({_ending_of(file) for file in files})) > 1:
        raise ValueError(f"{folder} has images that end on {' and on '.join(endings)}; store all of them alike")
    names = [without_ending(file) for file in files]
    numbered = [_CHANNEL.fullmatch(name) for name in names]
    of_case: dict[str, dict[int, Path]] = {}
    for file, match in zip(files, numbered, strict=True):
        if match:
            of_case.setdefault(match[1], {})[int(match[2])] = file
    if all(numbered) and any(0 in channels for channels in of_case.values()):
        in_colours = endings == [".png"] and num_channels == 3
        expected = [[*range(num_channels)]] + [[0]] * in_colours
        wrong = [
            f"{case} has {', '.join(f'_{channel:04d}' for channel in sorted(channels))}"
            for case, channels in of_case.items()
            if sorted(channels) not in expected
        ]
        if wrong:
            raise ValueError(
                f"{folder} must hold the channels _0000 to _{num_channels - 1:04d} of each case, as many as "
                f"--channel_names names:{_lines(wrong)}"
            )
        return {case: tuple(channels[c] for c in sorted(channels)) for case, channels in of_case.items()}
    if num_channels > 1 and not (endings == [".png"] and num_channels == 3):
        raise ValueError(
            f"{folder} holds files that do not end on the number of a channel, such as {files[0].name}: with "
            f"{num_channels} --channel_names the files of a case are CASE_0000{endings[0]}, CASE_0001{endings[0]} …"
        )
    return {name: (file,) for name, file in zip(names, files, strict=True)}


def find_masks(folders: Sequence[Path], cases: Collection[str]) -> tuple[list[str], dict[str, tuple[Path, ...]]]:
    """Names of the raters, in their order, and the masks of each case in the same order.

    Parameters
    ----------
    folders
        One folder with all masks, or with a sub-folder per rater; or several folders, one per rater.
    cases
        Names of the cases.

    Raises
    ------
    ValueError
        A case lacks a rater's mask, a mask belongs to no case, two masks are of one rater and case, or there are
        fewer than two raters; one message lists all that is wrong.
    """
    where = ", ".join(map(str, folders))
    if len(folders) == 1 and (inside := _folders_in(folders[0])):
        if _files_in(folders[0]):
            raise ValueError(
                f"{where} has both masks and sub-folders; leave the masks alone in it, or a folder per rater"
            )
        folders = inside
    of_rater: dict[str, dict[str, Path]] = {}
    problems = []
    for folder in folders:
        for file in _files_in(folder):
            case, rater = _belongs_to(without_ending(file), cases)
            if len(folders) > 1:
                case, rater = without_ending(file), str(folder) if _same_names(folders) else folder.name
            if not case and without_ending(file) in cases:
                problems.append(f"{file} does not say its rater: name it {without_ending(file)}_RATER")
            elif case not in cases:
                problems.append(f"{file} belongs to no image")
            elif other := of_rater.setdefault(rater, {}).get(case):
                problems.append(f"{other} and {file} are both of rater {rater} and case {case}")
            else:
                of_rater[rater][case] = file
    raters = list(of_rater) if len(folders) > 1 else sorted(of_rater, key=_in_order)
    if not problems and len(raters) < 2:
        what = "no mask" if not raters else "masks of one rater"
        raise ValueError(
            f"{where} has {what}: name them CASE_rater0, CASE_rater1 …, or give each rater a sub-folder with CASE, and "
            "the ending of images"
        )
    for case in cases:
        if lacking := [rater for rater in raters if case not in of_rater[rater]]:
            problems.append(f"{case} has no mask of {', '.join(lacking)}")
    if problems:
        shown = ", ".join(raters)
        raise ValueError(
            f"{where} must hold a mask of every rater{f' ({shown})' * bool(raters)} for every image, of zeros where a "
            f"rater saw nothing:{_lines(problems)}"
        )
    return raters, {case: tuple(of_rater[rater][case] for rater in raters) for case in cases}


def _belongs_to(name: str, cases: Collection[str]) -> tuple[str, str]:
    """Case and rater of a mask in a folder with those of all raters: the longest case that its name begins with."""
    parts = name.split("_")
    for length in range(len(parts) - 1, 0, -1):
        if (case := "_".join(parts[:length])) in cases:
            return case, "_".join(parts[length:])
    return "", ""


def _in_order(rater: str) -> list[tuple[bool, int, str]]:
    """rater2 before rater10."""
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", rater)]


def _same_names(folders: Sequence[Path]) -> bool:
    return len({folder.name for folder in folders}) < len(folders)


def _files_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    files = [path for path in _visible(folder) if path.is_file() and _ending_of(path)]
    check_names((file.name for file in files), folder)
    return files


def _folders_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    return sorted((path for path in _visible(folder) if path.is_dir()), key=lambda path: _in_order(path.name))


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and not is_apple_double(path.name))


def _ending_of(path: Path) -> str:
    return next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), "")


def _lines(problems: Sequence[str]) -> str:
    shown = "".join(f"\n  {problem}" for problem in problems[:_SHOWN])
    return shown + (f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else "")
