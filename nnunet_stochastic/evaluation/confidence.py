"""Files of calibrated confidence: maps in the geometry of the image, and probabilities at a temperature.

    platt         confidence_aleatoric/ confidence_epistemic/ confidence_total/      sigmoid(-(a(-u) + b))
    temperature   case.npz   softmax(ln p / T)          confidence/   of the predicted class; regions: their mean

The files of a case are staged together, so they are all there or none counts.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from nnunet_stochastic import metrics
from nnunet_stochastic.evaluation.calibration import Calibration
from nnunet_stochastic.evaluation.cases import CaseFiles, load_case
from nnunet_stochastic.evaluation.maps import FOLDERS, Measure
from nnunet_stochastic.evaluation.written_cases import WrittenCases
from nnunet_stochastic.io.images import read_volume
from nnunet_stochastic.io.staging import staged_files
from nnunet_stochastic.labels import EvaluatedLabels

if TYPE_CHECKING:
    from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

__all__ = ["RECORD", "ConfidenceFolder", "Method", "needed_files"]

RECORD = "confidence.json"

Method = Literal["platt", "temperature"]


def needed_files(case: CaseFiles, method: Method) -> CaseFiles:
    """The files of a case that a method reads."""
    if method == "platt":
        return replace(case, probabilities=(), samples=())
    return replace(case, maps={}, samples=())


@dataclass(frozen=True)
class ConfidenceFolder:
    """Where the files of each case go, and how they are made.

    Attributes
    ----------
    folder
        The output folder.
    method
        Which files are written.
    map_ending
        File ending of maps.
    labels, reader
        The classes, and nnU-Net's reader and writer of the dataset.
    calibration
        Platt parameters and temperature.
    measures
        Maps that are converted by Platt scaling.
    """

    folder: Path
    method: Method
    map_ending: str
    labels: EvaluatedLabels
    reader: BaseReaderWriter
    calibration: Calibration
    measures: tuple[Measure, ...] = ()

    @property
    def written(self) -> WrittenCases:
        """Which cases are written, and with what."""
        return WrittenCases(self.folder, RECORD, self._files)

    def write(self, files: CaseFiles) -> None:
        """Write the files of a case: all, or none that counts as complete."""
        # The last one, the segmentation where there is one, marks the case as complete for nnU-Net's commands.
        with staged_files(self.folder, self._files(files), name=files.name) as staging:
            (self._write_platt if self.method == "platt" else self._write_temperature)(files, staging)

    def _files(self, files: CaseFiles) -> list[Path]:
        """Files of a case, relative to the folder."""
        if self.method == "platt":
            return [self._map(f"confidence_{FOLDERS[measure]}", files.name) for measure in self.measures]
        pickled = files.prediction.parent / f"{files.name}.pkl"
        copied = [Path(pickled.name)] if pickled.is_file() else []
        return [
            self._map("confidence", files.name),
            Path(f"{files.name}.npz"),
            *copied,
            Path(files.prediction.name),
        ]

    def _map(self, folder: str, case: str) -> Path:
        return Path(folder) / f"{case}{self.map_ending}"

    def _write_platt(self, files: CaseFiles, partial: Path) -> None:
        for measure in self.measures:
            platt = self.calibration.platt(measure)
            if platt is None:
                raise ValueError(f"the calibration has no Platt parameters for {measure}; leave it out of measures")
            channels, properties = read_volume(files.maps[measure], self.reader)
            self._write_map(
                platt.confidence(channels[0]),
                partial / self._map(f"confidence_{FOLDERS[measure]}", files.name),
                properties,
            )

    def _write_temperature(self, files: CaseFiles, partial: Path) -> None:
        case = load_case(files, self.labels, self.reader)
        regions = self.labels.has_regions
        temperature = self.calibration.temperature
        if case.probabilities is None or temperature is None:
            raise ValueError(f"{files.name} lacks probabilities, or the calibration a temperature; both are needed")
        probabilities = metrics.tempered(case.probabilities, temperature, regions=regions)
        confidence = np.maximum(probabilities, 1 - probabilities).mean(axis=0) if regions else probabilities.max(axis=0)
        self._write_map(confidence, partial / self._map("confidence", files.name), case.grid)
        np.savez_compressed(partial / f"{files.name}.npz", probabilities=probabilities)
        for name in self._files(files)[2:]:
            shutil.copyfile(files.prediction.parent / name, partial / name)

    def _write_map(self, confidence: np.ndarray, path: Path, properties: Mapping) -> None:
        from nnunet_stochastic.inference.images import write_map

        write_map(confidence, path, dict(properties), type(self.reader))
