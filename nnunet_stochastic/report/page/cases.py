"""The cases of a page: a table row each, the files behind it, and the order from most to least uncertain.

How uncertain two models are cannot be compared case by case, so with several models each gives its most uncertain case
in turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_stochastic.evaluation.case_sets import SetFolders
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun
from nnunet_stochastic.evaluation.maps import find_map, read_map
from nnunet_stochastic.evaluation.mask_files import mask_folder
from nnunet_stochastic.evaluation.model import recorded_images
from nnunet_stochastic.evaluation.readers import ImageReader, read_first_channel, read_label_map
from nnunet_stochastic.io.folders import files_by_name
from nnunet_stochastic.io.grid import check_same_grid
from nnunet_stochastic.labels import EvaluatedLabels
from nnunet_stochastic.report.page.columns import EVALUATION_COLUMNS

__all__ = ["CaseDetails", "CaseSource", "DecidedMasks", "PageCase", "PredictionFolder", "page_cases"]


@dataclass(frozen=True)
class PredictionFolder:
    """What is known of the files of a folder of predictions.

    Attributes
    ----------
    folder
        Folder with segmentations and the folders of maps.
    file_ending
        File ending of the dataset, with its dot.
    labels
        The classes.
    reader
        nnU-Net's reader of the dataset.
    images
        File with the first channel of each case's image, as the prediction recorded it.
    """

    folder: Path
    file_ending: str
    labels: EvaluatedLabels
    reader: ImageReader
    images: Mapping[str, Path]

    @classmethod
    def of(
        cls,
        folder: Path,
        *,
        file_ending: str,
        labels: EvaluatedLabels,
        reader: ImageReader,
        image_folders: Sequence[Path] = (),
    ) -> PredictionFolder:
        """Complete what is known by the images that uncertainty.json names, if the predictions have that record.

        An image that is not there is looked for in ``image_folders``, under the name that nnU-Net gives its first
        channel.
        """
        images = dict(recorded_images(folder))
        for image_folder in image_folders:
            for name, path in files_by_name(image_folder, file_ending).items():
                case = name.removesuffix("_0000")
                if case != name and not (case in images and images[case].is_file()):
                    images[case] = path
        return cls(folder, file_ending, labels, reader, images)


@dataclass(frozen=True)
class DecidedMasks:
    """Inner and outer masks of a folder of decisions.

    Attributes
    ----------
    folder
        The folder.
    structures
        Structures that have masks.
    alpha
        Share that may be outside.
    """

    folder: Path
    structures: tuple[str, ...]
    alpha: float


@dataclass(frozen=True)
class CaseSource:
    """Where the arrays of a case come from; (z, y, x) each, on one voxel grid."""

    name: str
    files: PredictionFolder
    annotations: SetFolders
    decided: DecidedMasks | None = None

    def prediction(self) -> tuple[np.ndarray, dict]:
        """Segmentation, with the ignore label as background, and the reader's properties of its grid."""
        labels = self.files.labels
        volume, grid = read_label_map(self._segmentation, labels, self.files.reader)
        return labels.without_ignored(volume), grid

    def image(self, shape: tuple[int, ...]) -> np.ndarray | None:
        """First channel, or the colours (1, y, x, 3) of a 2D file, 0 to 255; ``None`` if the file is not there."""
        path = self.image_path
        if path is None or not path.is_file():
            return None
        return read_first_channel(path, self.files.reader, shape)

    def map(self, name: str, shape: tuple[int, ...], grid: dict) -> np.ndarray | None:
        """An uncertainty map, or ``None`` if the prediction wrote none."""
        path = find_map(self.files.folder, name, self.name, self.files.file_ending)
        if path is None:
            return None
        return read_map(
            path, self.files.reader, self.files.labels, prediction=self._segmentation, shape=shape, grid=grid
        )

    def rater_masks(self, shape: tuple[int, ...], grid: dict) -> dict[str, np.ndarray]:
        """Foreground of each rater, or of the reference where there are no raters, bool."""
        masks = {}
        for name, path in self._annotation_files():
            volume, annotation_grid = read_label_map(path, self.files.labels, self.files.reader)
            check_same_grid(self._segmentation, shape, grid, path, volume.shape, annotation_grid)
            masks[name] = (volume > 0) & (volume != self.files.labels.ignore_label)
        return masks

    def sample_files(self) -> list[Path]:
        """Files of the whole samples, in order; none where the prediction saved none."""
        folder, ending = self.files.folder / "samples", self.files.file_ending
        pattern = re.compile(re.escape(self.name) + r"_\d{3,}" + re.escape(ending))
        return sorted(path for path in folder.glob(f"*{ending}") if pattern.fullmatch(path.name))

    def sample(self, path: Path, shape: tuple[int, ...], grid: dict) -> np.ndarray:
        """One of ``sample_files``, with the ignore label as background."""
        labels = self.files.labels
        volume, sample_grid = read_label_map(path, labels, self.files.reader)
        check_same_grid(self._segmentation, shape, grid, path, volume.shape, sample_grid)
        return labels.without_ignored(volume)

    def decided_masks(self, which: str, shape: tuple[int, ...], grid: dict) -> Iterator[np.ndarray]:
        """Inner or outer mask of each structure that has them, bool; ``which``: one of ``MASKS``."""
        if self.decided is None:
            return
        labels = self.files.labels
        for structure in self.decided.structures:
            place = self.decided.folder / mask_folder(which, structure, labels)
            path = place / f"{self.name}{self.files.file_ending}"
            volume, mask_grid = read_label_map(path, labels, self.files.reader)
            check_same_grid(self._segmentation, shape, grid, path, volume.shape, mask_grid)
            yield volume > 0

    @property
    def image_path(self) -> Path | None:
        """File of the first channel, there or not; ``None`` where the prediction kept no record."""
        return self.files.images.get(self.name)

    @property
    def _segmentation(self) -> Path:
        return self.files.folder / f"{self.name}{self.files.file_ending}"

    def _annotation_files(self) -> list[tuple[str, Path]]:
        if self.annotations.raters is not None:
            pattern = re.compile(re.escape(self.name) + r"_rater(\d+)" + re.escape(self.files.file_ending))
            paths = files_by_name(self.annotations.raters, self.files.file_ending).values()
            found = sorted((int(match[1]), path) for path in paths if (match := pattern.fullmatch(path.name)))
            if found:
                return [(f"rater {index}", path) for index, path in found]
        if self.annotations.references is not None:
            path = self.annotations.references / f"{self.name}{self.files.file_ending}"
            if path.is_file():
                return [("reference", path)]
        return []


@dataclass(frozen=True)
class CaseDetails:
    """What is listed beside the viewer.

    Attributes
    ----------
    structures, lesions
        Values of their rows.
    centres_mm
        Centre of each lesion, (x, y, z) in the world of the image, mm.
    """

    structures: Sequence[Mapping[str, Any]] = ()
    lesions: Sequence[Mapping[str, Any]] = ()
    centres_mm: Sequence[tuple[float, float, float]] = ()


@dataclass(frozen=True)
class PageCase:
    """A row of the list of cases.

    Attributes
    ----------
    row
        Values of its row: model, set, case and those of the list's columns, ``None`` where there is none; ``mark``:
        what stands behind those of EU and behind the epistemic map.
    source
        Files of the case, or the reason why there are none to read.
    details
        Its structures and lesions.
    """

    row: dict[str, Any]
    source: CaseSource | str
    details: CaseDetails = CaseDetails()


def page_cases(results: Sequence[EvaluatedRun], open_folder: Callable[[Path], PredictionFolder]) -> list[PageCase]:
    """The cases of all results, the most uncertain first.

    Parameters
    ----------
    results
        Evaluations of the models.
    open_folder
        Function that finds out about a prediction folder; a ``ValueError`` or ``OSError`` of it becomes the reason in
        ``source``.
    """
    opened: dict[Path, PredictionFolder | str] = {}

    def open_once(folder: Path) -> PredictionFolder | str:
        if folder not in opened:
            try:
                opened[folder] = open_folder(folder)
            except (ValueError, OSError) as error:
                opened[folder] = str(error)
        return opened[folder]

    return list(_in_turn([_cases_of(result, open_once) for result in results]))


def _cases_of(result: EvaluatedRun, open_folder: Callable[[Path], PredictionFolder | str]) -> list[PageCase]:
    table = result.images.sort_values("TU", ascending=False, kind="stable")
    fields = [column.field for column in EVALUATION_COLUMNS]
    columns = [table[field] if field in table else np.full(len(table), np.nan) for field in fields]
    cases = []
    for name, case, *values in zip(table["set"], table["case"], *columns, strict=True):
        numbers = {
            field: None if np.isnan(value) else float(f"{value:.6g}")
            for field, value in zip(fields, values, strict=True)
        }
        source: CaseSource | str = f"the evaluation does not say where the set {name} is"
        if name in result.sets:
            opened = open_folder(result.sets[name].predictions)
            source = opened if isinstance(opened, str) else CaseSource(case, opened, result.sets[name])
        row = {"model": result.label, "set": name, "case": case, **numbers, "mark": result.mark}
        cases.append(PageCase(row, source))
    return cases


def _in_turn(lists: Sequence[Sequence[PageCase]]) -> Iterator[PageCase]:
    for rank in range(max(map(len, lists), default=0)):
        yield from (cases[rank] for cases in lists if rank < len(cases))
