"""Predictions of made series, as the predict command leaves them, from arrays on the slices of the series."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from tests.dicom.series_files import AXIAL, hounsfield, series_slices, uids, write_slices

LABELS = {"background": 0, "nodule": 1, "vessel ä": 2}
REGIONS = {"background": 0, "organ": [1, 2], "tumour": 2}
MAPS = ("total", "aleatoric", "epistemic", "variance")
SETTINGS: dict[str, Any] = {
    "trainer": "nnUNetTrainerMoB",
    "configuration": "3d_fullres",
    "checkpoints": {"fold_0": {"file": "checkpoint_final.pth", "sha256": "5e" * 32}},
    "members": 2,
    "seed": 0,
    "epistemic_source": "ensemble",
    "aleatoric_source": "model",
    "versions": {"nnunet_stochastic": "0.1.0"},
}


@dataclass
class Made:
    """Arrays of a case (slices, rows, columns), and its series."""

    segmentation: np.ndarray
    maps: dict[str, np.ndarray]
    probabilities: np.ndarray
    files: list[Path]
    image: sitk.Image


@dataclass
class MadePredictions:
    """Folders ``dicom``, a series per case, and ``out``, the predictions."""

    root: Path
    labels: dict[str, Any] = field(default_factory=lambda: LABELS)
    reader: str = "SimpleITKIO"
    orient: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    cases: dict[str, Made] = field(default_factory=dict)

    def add(
        self, name: str, orientation: tuple[float, ...] = AXIAL, *, seed: int = 0, channels: int = 1, **changes: Any
    ) -> Made:
        """Make a case; ``orient`` of the class stores its files with other axes, as ``sitk.DICOMOrient`` names them."""
        rng = np.random.default_rng(seed)
        folder = self.root / "dicom" / name
        for channel in range(1, channels):
            identity = {**uids(name), "SeriesInstanceUID": uids(f"{name} {channel}")["SeriesInstanceUID"]}
            slices = series_slices(hounsfield(seed=seed), orientation=orientation, **identity)
            write_slices(folder / f"{channel:04d}", slices, seed=channel)
        slices = series_slices(hounsfield(seed=seed), orientation=orientation, seed=name, **changes)
        files = write_slices(folder if channels == 1 else folder / "0000", slices, seed=seed)
        image = sitk.ReadImage(list(map(str, files)))
        shape = (7, 12, 10)
        logits = rng.normal(size=(3, *shape)).astype(np.float32)
        logits[0] += 0.7
        logits[:, 3] = np.array([9.0, 0, 0])[:, None, None]  # a slice of background in the middle
        exponentials = np.exp(logits)
        probabilities = exponentials / exponentials.sum(axis=0)
        segmentation = probabilities.argmax(axis=0).astype(np.uint8)
        if any(isinstance(value, list) for value in self.labels.values()):
            probabilities = np.stack([segmentation > 0, segmentation == 2]) * 0.5 + 0.25
        maps = {name: rng.uniform(0.001, 0.2, shape).astype(np.float32) for name in MAPS[1:]}
        maps["total"] = maps["aleatoric"] + maps["epistemic"]
        made = Made(segmentation, maps, probabilities.astype(np.float32), files, image)
        self.cases[name] = made
        self._write(self.root / "out" / f"{name}.nii.gz", segmentation, image)
        for kind, array in maps.items():
            self._write(self.root / "out" / kind / f"{name}.nii.gz", array, image)
        for channel, array in enumerate(made.probabilities):
            path = self.root / "out" / "probabilities" / f"{name}_{channel:04d}.nii.gz"
            self._write(path, array, image)
        self.write_record()
        return made

    def write_record(self, **of_cases: Any) -> None:
        """Write what describes the predictions; ``of_cases`` goes into the entry of each case."""
        dataset = {"labels": self.labels, "file_ending": ".nii.gz", "channel_names": {"0": "CT"}}
        if any(isinstance(value, list) for value in self.labels.values()):
            dataset["regions_class_order"] = [1, 2]
        (self.root / "out" / "dataset.json").write_text(json.dumps(dataset))
        (self.root / "out" / "plans.json").write_text(json.dumps({"image_reader_writer": self.reader}))
        entries = {name: {"input_files": ["x"], "dicom_series": [identity(name)], **of_cases} for name in self.cases}
        record = {"settings": SETTINGS | self.settings, "cases": entries}
        (self.root / "out" / "uncertainty.json").write_text(json.dumps(record))

    def _write(self, path: Path, array: np.ndarray, image: sitk.Image) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = sitk.GetImageFromArray(array)
        written.CopyInformation(image)
        if self.orient is not None:
            written = sitk.DICOMOrient(written, self.orient)
        sitk.WriteImage(written, str(path))


def identity(name: str) -> dict[str, str]:
    """What a record says of the series of a case."""
    found = uids(name)
    return {
        "study_instance_uid": found["StudyInstanceUID"],
        "series_instance_uid": found["SeriesInstanceUID"],
        "frame_of_reference_uid": found["FrameOfReferenceUID"],
    }
