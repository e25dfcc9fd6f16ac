"""A predicted case with the DICOM series that it is of, and the objects that are made of it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_stochastic.dicom.fractional import fractional_segmentation
from nnunet_stochastic.dicom.grid import VoxelOrder, voxel_order
from nnunet_stochastic.dicom.objects import DicomObject, Producer
from nnunet_stochastic.dicom.parametric_map import parametric_map
from nnunet_stochastic.dicom.segmentation import binary_segmentation
from nnunet_stochastic.dicom.series import DicomSeries, read_case
from nnunet_stochastic.evaluation.cases import CaseFiles, load_probabilities
from nnunet_stochastic.evaluation.maps import find_map, read_map
from nnunet_stochastic.evaluation.predicted_dataset import PredictedDataset
from nnunet_stochastic.evaluation.readers import read_label_map
from nnunet_stochastic.io.grid import world_affine
from nnunet_stochastic.io.hashing import content_sha256, file_sha256
from nnunet_stochastic.measures import FOLDERS

__all__ = ["DicomCase", "files_of_kind"]

_PARAMETERS = (
    *("trainer", "configuration", "epistemic_source", "aleatoric_source", "members", "num_samples"),
    *("estimator", "seed"),
)
_UNKNOWN = "unknown"


def files_of_kind(files: CaseFiles, kind: str, file_ending: str) -> tuple[Path, ...]:
    """Files of a case that an object of ``KINDS`` is made of; none where it has none."""
    if kind == "segmentation":
        return (files.prediction,)
    if kind == "probabilities":
        return files.probabilities
    path = find_map(files.prediction.parent, kind, files.name, file_ending)
    return () if path is None else (path,)


@dataclass(frozen=True)
class DicomCase:
    """A case whose segmentation was read, and lies on the grid of its series.

    Attributes
    ----------
    files, dataset
        Paths of the case, and what the predictions say of their data set.
    settings
        Settings of the prediction, of its record.
    codes
        What each structure is, as ``read_codes`` gives it.
    channels
        Series of the case, one per channel.
    segmentation, grid
        Label map (z, y, x) and what the reader says of its grid.
    order
        How its axes become slices, rows and columns.
    """

    files: CaseFiles
    dataset: PredictedDataset
    settings: Mapping[str, Any]
    codes: Mapping[str, Mapping[str, Any]]
    channels: tuple[DicomSeries, ...]
    segmentation: np.ndarray
    grid: dict
    order: VoxelOrder

    @classmethod
    def read(
        cls,
        files: CaseFiles,
        folders: Sequence[Path],
        dataset: PredictedDataset,
        record: Mapping[str, Any],
        codes: Mapping[str, Mapping[str, Any]],
    ) -> DicomCase:
        """Read segmentation and headers.

        Parameters
        ----------
        files, dataset, codes
            Attributes of the class.
        folders
            Folders of the series, one per channel.
        record
            Content of uncertainty.json.

        Raises
        ------
        OSError, ValueError
            Something cannot be read, the series are others than those of the prediction, or its grid is another.
        """
        channels = read_case(folders)
        entry = record["cases"].get(files.name)
        if entry is None:
            raise ValueError(f"uncertainty.json beside {files.prediction} has no entry of it; predict the case again")
        predicted, found = entry.get("dicom_series"), [series.identity for series in channels]
        if predicted is not None and predicted != found:
            was, now = (
                ", ".join(identity["series_instance_uid"] for identity in identities)
                for identities in (predicted, found)
            )
            raise ValueError(
                f"{files.prediction} was predicted from the series {was}, and {folders[0]} holds {now}: name the "
                "folder of the former with -dicom"
            )
        segmentation, grid = read_label_map(files.prediction, dataset.labels, dataset.reader)
        order = voxel_order(files.prediction, segmentation.shape, world_affine(grid), channels[0])
        return cls(files, dataset, record["settings"], codes, channels, segmentation, grid, order)

    def check_headers(self) -> None:
        """Raise ``ValueError`` where objects cannot have what the headers say: one is made of the first slices."""
        first = [replace(series, files=series.files[:1], headers=series.headers[:1]) for series in self.channels]
        labels = self.dataset.labels
        one_slice = np.full((1, *self.channels[0].shape[1:]), labels.classes[0][0])
        binary_segmentation(one_slice, labels, self.codes, first, self.producer, "")

    def made_of(self, kinds: Sequence[str]) -> dict[str, Any]:
        """What decides the content of objects, JSON-serializable: hashes of files, identifiers, codes and version."""
        return {
            "files": {kind: [file_sha256(path) for path in self._files_of(kind)] for kind in kinds},
            "series": [series.identity for series in self.channels],
            "slices": content_sha256([str(h.SOPInstanceUID) for series in self.channels for h in series.headers]),
            "codes": {name: dict(of_structure) for name, of_structure in self.codes.items()},
            "producer": [self.producer.version, self.producer.model, dict(self.producer.parameters)],
        }

    def make(self, kind: str) -> DicomObject:
        """Make an object of ``KINDS``."""
        labels = self.dataset.labels
        digest = content_sha256(self.made_of([kind]))
        if kind == "segmentation":
            labelled = self.order.of(labels.without_ignored(self.segmentation))
            return binary_segmentation(labelled, labels, self.codes, self.channels, self.producer, digest)
        if kind == "probabilities":
            found = load_probabilities(self.files, self.segmentation, self.grid, labels, self.dataset.reader)
            if found is None:
                raise ValueError(f"{self.files.name} has no probabilities; predict again with --save_probabilities")
            of_structures = [self.order.of(found[labels.channel(index)]) for index in range(len(labels.names))]
            return fractional_segmentation(of_structures, labels, self.codes, self.channels, self.producer, digest)
        (path,) = self._files_of(kind)
        array = read_map(
            path,
            self.dataset.reader,
            labels,
            prediction=self.files.prediction,
            shape=self.segmentation.shape,
            grid=self.grid,
        )
        remark = self._remark(kind)
        return parametric_map(kind, self.order.of(array), self.channels, self.producer, digest, remark=remark)

    @property
    def producer(self) -> Producer:
        """What made the prediction, by its record; when, by the time of its file."""
        checkpoints = [entry.get("sha256", _UNKNOWN) for entry in self.settings.get("checkpoints", {}).values()]
        return Producer(
            self.settings.get("versions", {}).get("nnunet_stochastic", _UNKNOWN),
            checkpoints[0] if checkpoints else _UNKNOWN,
            {name: str(value) for name in _PARAMETERS if (value := self.settings.get(name)) is not None},
            datetime.datetime.fromtimestamp(self.files.prediction.stat().st_mtime),
        )

    def _files_of(self, kind: str) -> tuple[Path, ...]:
        return files_of_kind(self.files, kind, self.dataset.file_ending)

    def _remark(self, kind: str) -> str | None:
        """What a reader must know of a map, in at most 64 characters."""
        factor = self.settings.get("epistemic_factor", 1.0)
        stands_in = self.settings.get("epistemic_source") == "aleatoric_samples"
        remarks = ["stand-in by samples of one member"] if kind == FOLDERS["EU"] and stands_in else []
        if factor != 1 and kind in (FOLDERS["EU"], FOLDERS["TU"]):
            remarks.append(f"epistemic part times {factor:.4g}")
        return "; ".join(remarks) or None
