"""The cases of a prediction: their input files, and the files that make a case complete."""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_stochastic.io.folders import require_writable
from nnunet_stochastic.io.names import check_names, is_apple_double
from nnunet_stochastic.io.staging import publish, remove_leftovers, stage, staging_path
from nnunet_stochastic.maps import MAP_NAMES, MapName

__all__ = ["InputCase", "OutputFolder", "cases_from_files", "find_cases"]


@dataclass(frozen=True)
class InputCase:
    """One image to predict.

    Parameters
    ----------
    name
        Name of the case, which its files begin with.
    files
        One file per channel, in order; or one file that holds all channels.
    previous_stage
        Segmentation of the previous stage of a cascade.
    """

    name: str
    files: tuple[Path, ...]
    previous_stage: Path | None = None


def find_cases(
    folder: str | Path, *, file_ending: str, num_channels: int, previous_stage_folder: str | Path | None = None
) -> list[InputCase]:
    """Cases of a folder of images named CASE_XXXX + ending, XXXX the channel, sorted by name.

    Parameters
    ----------
    folder
        Folder of the images.
    file_ending
        File ending of the dataset, for instance ``.nii.gz``.
    num_channels
        Number of channels of an image. A case has that many files, or one that holds all channels (RGB, 4D).
    previous_stage_folder
        Folder of the segmentations of a cascade's previous stage.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no input folder {folder}")
    pattern = re.compile(r"(.+)_(\d{4})" + re.escape(file_ending), re.DOTALL)
    channels: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in sorted(folder.iterdir()):
        if (match := pattern.fullmatch(path.name)) and not is_apple_double(path.name):
            channels[match[1]][int(match[2])] = path
    if not channels:
        raise FileNotFoundError(
            f"no images in {folder}: they must be named CASE_0000{file_ending}, CASE_0001{file_ending} and so on, one "
            "number per channel, with the file ending of the training data"
        )
    check_names(channels, folder)
    problems = []
    for name, files in channels.items():
        if sorted(files) not in (list(range(num_channels)), [0]):
            problems.append(f"{name} has channels {' '.join(f'{channel:04d}' for channel in sorted(files))}")
    if problems:
        raise ValueError(
            f"images of {num_channels} channel{'s' if num_channels > 1 else ''} are needed, numbered from 0000; "
            f"in {folder} {'; '.join(problems)}"
        )
    in_order = [[paths[channel] for channel in sorted(paths)] for paths in channels.values()]
    return cases_from_files(in_order, file_ending=file_ending, previous_stage_folder=previous_stage_folder)


def cases_from_files(
    files: Sequence[Sequence[str | Path]], *, file_ending: str, previous_stage_folder: str | Path | None = None
) -> list[InputCase]:
    """Cases from lists of files, one list per case, one file per channel."""
    cases = []
    for case_files in files:
        paths = tuple(Path(file) for file in case_files)
        name = re.sub(r"_\d{4}$", "", paths[0].name.removesuffix(file_ending))
        previous = Path(previous_stage_folder) / f"{name}{file_ending}" if previous_stage_folder is not None else None
        cases.append(InputCase(name, paths, previous))
    names = [case.name for case in cases]
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"several cases are named {', '.join(duplicates)}: give every case a name of its own")
    inputs = [path for case in cases for path in (*case.files, case.previous_stage) if path is not None]
    missing = [path for path in inputs if not path.is_file()]
    if missing:
        raise FileNotFoundError("missing input files: " + ", ".join(map(str, missing)))
    return cases


@dataclass(frozen=True)
class OutputFolder:
    """Names of the files that a prediction writes, and how they get there: all of a case, or none that counts.

    A case is written into a hidden folder of its own and moved when it is finished, the segmentation last.
    """

    folder: Path
    file_ending: str
    map_ending: str
    maps: tuple[MapName, ...]
    probabilities: bool
    num_samples: int = 0

    def segmentation(self, case: str) -> Path:
        """The segmentation, written last: where it is, the case is complete."""
        return self.folder / f"{case}{self.file_ending}"

    def relative_files(self, case: str) -> list[Path]:
        """All files of a case but the segmentation, relative to the folder."""
        files = [Path(name) / f"{case}{self.map_ending}" for name in self.maps]
        files += [self.sample(case, index) for index in range(self.num_samples)]
        return files + ([Path(f"{case}.npz"), Path(f"{case}.pkl")] if self.probabilities else [])

    def sample(self, case: str, index: int) -> Path:
        """A whole sample, relative to the folder."""
        return Path("samples") / f"{case}_{index:03d}{self.file_ending}"

    def is_complete(self, case: str) -> bool:
        """Whether the segmentation and every other requested file exist."""
        return self.segmentation(case).is_file() and all(
            (self.folder / file).is_file() for file in self.relative_files(case)
        )

    def create(self) -> None:
        """Make the folder and those of maps and samples; raise if nothing can be written there."""
        names = [*self.maps, *(["samples"] if self.num_samples else [])]
        for folder in (self.folder, *(self.folder / name for name in names)):
            require_writable(folder)

    def begin(self, case: str) -> Path:
        """An empty hidden folder to write the files of a case into, with the sub-folders they need."""
        staging = stage(self.folder, case)
        for file in self.relative_files(case):
            (staging / file).parent.mkdir(parents=True, exist_ok=True)
        return staging

    def begun(self, case: str) -> Path:
        """The hidden folder of a case that was begun."""
        return staging_path(self.folder, case)

    def publish(self, case: str, *, before_last: Callable[[], object] = lambda: None) -> None:
        """Move the files of a case to their places.

        Parameters
        ----------
        case
            Name of a case whose files are in the folder that ``begin`` made.
        before_last
            Called when all is in place but the segmentation, which makes the case complete.

        Raises
        ------
        OSError
            If a file is missing or damaged, because the disk is full for instance. Nothing has been moved then.
        """

        def in_place() -> None:
            for file in self._stale_files(case):
                file.unlink()
            before_last()

        files = [*self.relative_files(case), Path(self.segmentation(case).name)]
        publish(self.begun(case), self.folder, files, before_last=in_place)
        self.discard(case)

    def discard(self, case: str) -> None:
        """Remove what a failed prediction of a case has left behind."""
        shutil.rmtree(self.begun(case), ignore_errors=True)

    def discard_leftovers(self, cases: Collection[str]) -> None:
        """Remove what interrupted predictions of cases have left behind."""
        remove_leftovers(self.folder, cases)

    def _stale_files(self, case: str) -> list[Path]:
        """Files of the case that an earlier prediction wrote and this one does not."""
        written = {self.folder / file for file in self.relative_files(case)}
        known = [self.folder / name / f"{case}{self.map_ending}" for name in MAP_NAMES]
        known += [self.folder / f"{case}.npz", self.folder / f"{case}.pkl"]
        sample = re.compile(re.escape(case) + r"_\d{3,}" + re.escape(self.file_ending))
        if (self.folder / "samples").is_dir():
            known += [path for path in (self.folder / "samples").iterdir() if sample.fullmatch(path.name)]
        return [path for path in known if path not in written and path.is_file()]
