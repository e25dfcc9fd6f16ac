"""Which folder holds which series: a folder per case, and in it one per channel where a case has several.

FOLDER/CASE/any names                           one channel: the slices
FOLDER/CASE/0000/any names, CASE/0001/…         several: one series per channel, numbered as nnU-Net numbers files
"""

from __future__ import annotations

from pathlib import Path

from nnunet_stochastic.io.names import check_names, counted, few

__all__ = ["holds_series_folders", "series_folders", "slice_files"]

_LAYOUT = "the slices of a case lie in a folder CASE, those of several channels in CASE/0000, CASE/0001 and so on"


def holds_series_folders(folder: Path) -> bool:
    """Whether a folder, which is there, holds folders and no files: series, as it cannot be images."""
    entries = _entries(folder)
    return bool(entries) and all(path.is_dir() for path in entries)


def series_folders(folder: Path, *, num_channels: int | None = None) -> dict[str, tuple[Path, ...]]:
    """Folders of the series of each case, one per channel in order, by the case's name; sorted.

    Parameters
    ----------
    folder
        Folder that holds a folder per case.
    num_channels
        Number of channels that each case must have; default: any.

    Raises
    ------
    FileNotFoundError
        There is no such folder, or no case in it.
    ValueError
        Files lie where folders are expected, a case has other channels, or a name is none of a case.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder of DICOM series {folder}")
    entries = _entries(folder)
    if files := [path.name for path in entries if not path.is_dir()]:
        raise ValueError(f"{folder} has files beside its folders of DICOM series ({few(files, 'files')}): {_LAYOUT}")
    if not entries:
        raise FileNotFoundError(f"{folder} holds no DICOM series: {_LAYOUT}")
    check_names((path.name for path in entries), folder)
    found, problems = {}, []
    for case in entries:
        inner = _entries(case)
        channels = [path for path in inner if path.is_dir()]
        if not channels:
            channels = [case]
        elif len(channels) < len(inner):
            problems.append(f"{case} has both files and folders")
        elif [path.name for path in channels] != [f"{channel:04d}" for channel in range(len(channels))]:
            problems.append(f"{case} has folders {few([path.name for path in channels], 'folders')}")
        if num_channels is not None and len(channels) != num_channels:
            problems.append(f"{case} has {counted(len(channels), 'channel')}, the model's images {num_channels}")
        found[case.name] = tuple(channels)
    if problems:
        raise ValueError(f"{'; '.join(problems)}: {_LAYOUT}")
    return found


def slice_files(folder: Path) -> list[Path]:
    """Files of a folder that must be the slices of one series, by name.

    Raises
    ------
    FileNotFoundError
        There are none.
    ValueError
        There is a folder among them.
    """
    entries = _entries(folder)
    if inner := [path.name for path in entries if path.is_dir()]:
        raise ValueError(f"{folder} has a folder {inner[0]} among the slices: {_LAYOUT}")
    if not entries:
        raise FileNotFoundError(f"{folder} is empty: {_LAYOUT}")
    return entries


def _entries(folder: Path) -> list[Path]:
    """What a folder holds, by name, but for what is hidden, which macOS leaves."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
