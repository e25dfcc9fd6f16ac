"""The cases of a prediction: their input files, and the files that make a case complete."""

from __future__ import annotations

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_stochastic.decisions.lesions import LESIONS_FILE
from nnunet_stochastic.decisions.structures import STRUCTURES_FILE
from nnunet_stochastic.inference.record import EarlierPredictions
from nnunet_stochastic.inference.volumes import VOLUMES_FILE
from nnunet_stochastic.io.folders import files_by_name, require_writable
from nnunet_stochastic.io.hashing import file_sha256
from nnunet_stochastic.io.images import ImageReader, read_image
from nnunet_stochastic.io.names import few
from nnunet_stochastic.io.staging import publish, remove_leftovers, stage, staging_path
from nnunet_stochastic.maps import MAP_NAMES, MapName
from nnunet_stochastic.prediction_choices import MAX_MAP_DIGITS, PROBABILITIES_FOLDER, ProbabilityFormat

__all__ = ["InputCase", "OutputFolder", "cases_from_files", "check_output_folder", "find_input_cases"]

_TIFF_ENDINGS = (".tif", ".tiff")
_TABLES = (VOLUMES_FILE, STRUCTURES_FILE, LESIONS_FILE)
#: Files of the whole folder that a prediction writes, beside its record.
_COMMON_FILES = ("dataset.json", "plans.json", "predict_from_raw_data_args.json", *_TABLES)
#: What tells a folder of a data set, of a trained model or of its fold.
_FOREIGN_MARKS = ("dataset_fingerprint.json", "splits_final.json", "checkpoint_final.pth", "checkpoint_best.pth")
_DATASET_FOLDERS = re.compile("(images|labels|raters)T[rs]")


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

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The image's files, and the segmentation of the previous stage if there is one."""
        return self.files if self.previous_stage is None else (*self.files, self.previous_stage)

    def sha256(self) -> list[str]:
        """Hashes of all files that are read for the case."""
        files = self.inputs
        # nnU-Net's reader of TIFF takes the spacing from such a file.
        spacing = sorted({path.with_name(f"{self.name}.json") for path in files if path.suffix in _TIFF_ENDINGS})
        return [file_sha256(path) for path in (*files, *(path for path in spacing if path.is_file()))]

    def read(self, reader: ImageReader) -> tuple[np.ndarray, dict[str, Any]]:
        """Channels (channels, z, y, x) of the image, float32, and their properties; see ``io.images.read_image``."""
        return read_image(self.files, reader)

    def origin(self) -> dict[str, Any]:
        """What the record of the prediction says of where the image is from, JSON-serializable."""
        return {"input_files": [str(file.resolve()) for file in self.files]}


def find_input_cases(
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
    channels: dict[str, dict[int, Path]] = defaultdict(dict)
    misnamed = []
    for name, path in files_by_name(folder, file_ending).items():
        if match := re.fullmatch(r"(.+)_(\d{4})", name):
            channels[match[1]][int(match[2])] = path
        else:
            misnamed.append(path.name)
    if not channels:
        raise FileNotFoundError(
            f"no images in {folder}: they must be named CASE_0000{file_ending}, CASE_0001{file_ending} and so on, one "
            "number per channel, with the file ending of the training data; slices of DICOM series lie in a folder per "
            "case, and nothing beside these folders"
        )
    if misnamed:
        raise ValueError(
            f"{len(misnamed)} files of {folder} are named like images but have no number of a channel: rename "
            f"{misnamed[0]} to CASE_0000{file_ending}, or move it and its like elsewhere"
        )
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
        raise ValueError(f"several cases are named {few(duplicates, 'names')}: give every case a name of its own")
    inputs = [path for case in cases for path in (*case.files, case.previous_stage) if path is not None]
    missing = [path for path in inputs if not path.is_file()]
    if missing:
        raise FileNotFoundError("missing input files: " + few([str(path) for path in missing], "files"))
    return cases


@dataclass(frozen=True)
class OutputFolder:
    """Names of the files that a prediction writes, and how they get there: all of a case, or none that counts.

    A case is written into a hidden folder of its own and moved when it is finished, the segmentation last.

    Parameters
    ----------
    folder, file_ending, map_ending
        Where, and the endings of label maps and of float images.
    maps
        Names of the maps.
    probabilities
        Whether the predictive mean is written.
    num_samples
        Number of whole samples.
    map_digits
        Binary digits that the numbers of maps keep.
    num_probability_images
        Number of images that hold the predictive mean, one per class or region; ``None``: one file of nnU-Net's.
    """

    folder: Path
    file_ending: str
    map_ending: str
    maps: tuple[MapName, ...]
    probabilities: bool
    num_samples: int = 0
    map_digits: int = MAX_MAP_DIGITS
    num_probability_images: int | None = None

    def settings(self) -> dict[str, Any]:
        """What the record says of the files, JSON-serializable."""
        probability_format: ProbabilityFormat = "npz" if self.num_probability_images is None else "nifti"
        return {
            "save_probabilities": self.probabilities,
            "probability_format": probability_format if self.probabilities else None,
            "map_digits": self.map_digits,
        }

    def segmentation(self, case: str) -> Path:
        """The segmentation, written last: where it is, the case is complete."""
        return self.folder / f"{case}{self.file_ending}"

    def relative_files(self, case: str) -> list[Path]:
        """All files of a case but the segmentation, relative to the folder."""
        files = [Path(name) / f"{case}{self.map_ending}" for name in self.maps]
        files += [self.sample(case, index) for index in range(self.num_samples)]
        if not self.probabilities:
            return files
        if self.num_probability_images is None:
            return [*files, Path(f"{case}.npz"), Path(f"{case}.pkl")]
        return files + [self.probability_image(case, channel) for channel in range(self.num_probability_images)]

    def probability_image(self, case: str, channel: int) -> Path:
        """The predictive mean of a class, relative to the folder."""
        return Path(PROBABILITIES_FOLDER) / f"{case}_{channel:04d}{self.map_ending}"

    def sample(self, case: str, index: int) -> Path:
        """A whole sample, relative to the folder."""
        return Path("samples") / f"{case}_{index:03d}{self.file_ending}"

    def is_complete(self, case: str) -> bool:
        """Whether the segmentation and every other requested file exist."""
        return self.segmentation(case).is_file() and all(
            (self.folder / file).is_file() for file in self.relative_files(case)
        )

    def damage(self, case: str, recorded: Mapping[str, str]) -> str | None:
        """What is wrong with the files of a case, given their hashes by their relative paths; ``None``: nothing."""
        for file in (Path(self.segmentation(case).name), *self.relative_files(case)):
            name = file.as_posix()
            if not (self.folder / file).is_file():
                return f"{self.folder / file} is missing"
            if name not in recorded:
                return f"{self.folder / file} has no hash in the record"
        for name in sorted(self._own_names(case) & recorded.keys()):
            if not (self.folder / name).is_file():
                return f"{self.folder / name} is missing"
            if file_sha256(self.folder / name) != recorded[name]:
                return f"{self.folder / name} is damaged or was replaced"
        return None

    def surplus(self, case: str, recorded: Collection[str]) -> set[str]:
        """Those of the recorded files of a case that this prediction does not write."""
        return set(recorded) - self._own_names(case)

    def staged_sha256(self, case: str) -> dict[str, str]:
        """Hashes of all files of a case in its hidden folder, by their paths relative to it."""
        begun = self.begun(case)
        files = sorted(path.relative_to(begun).as_posix() for path in begun.rglob("*") if path.is_file())
        return {name: file_sha256(begun / name) for name in files}

    def check_free(self, cases: Sequence[InputCase], foreign: Collection[Path], earlier: EarlierPredictions) -> None:
        """Raise ``ValueError`` if files would be replaced that no earlier prediction wrote, or that are predicted now.

        Parameters
        ----------
        cases
            Cases to predict.
        foreign
            What ``common_files`` found before the records were read.
        earlier
            What the records in the folder say.
        """
        replaced = [] if earlier.exist else list(foreign)
        inputs = {file.resolve() for case in cases for file in case.inputs}
        for case in cases:
            own = earlier.own(case.name)
            replaced += [path for path in self._files_there(case.name) if not own or path.resolve() in inputs]
        if replaced:
            names = [str(path.relative_to(self.folder)) for path in replaced]
            raise ValueError(
                f"{self.folder} holds files that no earlier prediction wrote, among them {', '.join(names[:3])} "
                f"({len(names)} in all): choose another output folder with -o"
            )

    def common_files(self) -> list[Path]:
        """Files of the whole folder that are there, and files of a data set or model in their place."""
        found = [self.folder / name for name in (*_COMMON_FILES, *_FOREIGN_MARKS)]
        return [path for path in found if path.exists()]

    def withdraw(self, case: str) -> None:
        """Remove the published files of a case, the segmentation first."""
        for path in self._files_there(case):
            path.unlink()

    def remove_stale(self, case: str) -> None:
        """Remove files of the case that an earlier prediction wrote and this one does not."""
        for file in self._stale_files(case):
            file.unlink()

    def create(self) -> None:
        """Make the folder and those of maps and samples; raise if nothing can be written there."""
        names = [*self.maps, *(["samples"] if self.num_samples else [])]
        names += [PROBABILITIES_FOLDER] if self.probabilities and self.num_probability_images else []
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
            Function that is called when all is in place but the segmentation, which makes the case complete.

        Raises
        ------
        OSError
            If a file is missing or damaged, because the disk is full for instance. Nothing has been moved then.
        """

        def in_place() -> None:
            self.remove_stale(case)
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

    def _own_names(self, case: str) -> set[str]:
        """All files of a case, relative to the folder, with those that writers put beside them."""
        files = [Path(self.segmentation(case).name), *self.relative_files(case)]
        return {file.as_posix() for each in files for file in _with_spacing(each)}

    def _files_there(self, case: str) -> list[Path]:
        """Whatever a prediction of the case with any options writes and is there, the segmentation first."""
        known = [self.segmentation(case)]
        known += [self.folder / name / f"{case}{self.map_ending}" for name in MAP_NAMES]
        known += [self.folder / f"{case}.npz", self.folder / f"{case}.pkl"]
        for folder, number, ending in (
            ("samples", r"_\d{3,}", self.file_ending),
            (PROBABILITIES_FOLDER, r"_\d{4}", self.map_ending),
        ):
            numbered = re.compile(re.escape(case) + number + re.escape(ending))
            if (self.folder / folder).is_dir():
                known += [path for path in (self.folder / folder).iterdir() if numbered.fullmatch(path.name)]
        return [path for each in known for path in _with_spacing(each) if path.exists()]

    def _stale_files(self, case: str) -> list[Path]:
        written = {self.folder / name for name in self._own_names(case)}
        return [path for path in self._files_there(case) if path not in written]


def _with_spacing(file: Path) -> list[Path]:
    """A file and, if it is a TIFF, that with its spacing."""
    return [file, *([file.with_suffix(".json")] if file.suffix in _TIFF_ENDINGS else [])]


def check_output_folder(
    folder: str | Path, images_folder: str | Path | None, previous_stage: str | Path | None
) -> None:
    """Raise ``ValueError`` if predictions would be written among what they are made of.

    Parameters
    ----------
    folder
        Output folder.
    images_folder
        Folder of the images, if they were named so.
    previous_stage
        Folder of the segmentations of a previous stage, if there is one.
    """
    if not str(folder):
        raise ValueError("the output folder has no name: choose one with -o")
    output = Path(folder).resolve()
    inputs = [path for path in (images_folder, previous_stage) if path is not None]
    if output in {Path(path).resolve() for path in inputs}:
        raise ValueError(f"{folder} holds what is to be predicted: choose another output folder with -o")
    roots = {name: os.environ.get(name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    if found := [name for name, path in roots.items() if path and Path(path).resolve() == output]:
        raise ValueError(f"{folder} is {found[0]}: choose another output folder with -o")
    if _DATASET_FOLDERS.fullmatch(output.name) and (output.parent / "dataset.json").is_file():
        raise ValueError(f"{folder} is of the data set {output.parent.name}: choose another output folder with -o")
