"""What a prediction says of each structure and lesion of its case, and the tables structures.csv and lesions.csv of it.

The rows of a case are in its entry of uncertainty.json; the tables are written from there, so that they are the same
however many commands and interruptions the prediction took.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_stochastic.decisions.lesions import LESIONS_FILE, Lesion, find_lesions
from nnunet_stochastic.decisions.overlaps import Overlaps
from nnunet_stochastic.decisions.structures import STRUCTURES_FILE, StructureRow, structure_rows
from nnunet_stochastic.inference.label_store import LabelStore
from nnunet_stochastic.inference.restore import Prediction
from nnunet_stochastic.io.grid import voxel_volume_ml, world_affine
from nnunet_stochastic.io.text import FLOAT32_DIGITS, write_table
from nnunet_stochastic.labels import EvaluatedLabels, voxels_of
from nnunet_stochastic.measures import FOLDERS

__all__ = ["LesionChoice", "describe_case", "without_maps", "write_tables"]


@dataclass(frozen=True)
class LesionChoice:
    """Which structures have lesions.

    Parameters
    ----------
    structures
        Their names in dataset.json.
    min_ml
        Volume below which a component is no lesion, ml, at least 0.
    """

    structures: tuple[str, ...] = ()
    min_ml: float = 0.0

    def checked(self, labels: EvaluatedLabels) -> LesionChoice:
        """The choice with each structure once, in order of the labels.

        Raises
        ------
        ValueError
            If a structure is none of the model's, or the volume is none.
        """
        if unknown := [name for name in self.structures if name not in labels.names]:
            raise ValueError(f"lesions: {', '.join(unknown)[:200]}: choose from {', '.join(labels.names)}")
        if not 0 <= self.min_ml < float("inf"):
            raise ValueError(f"min_lesion_ml must be at least 0 and finite, got {self.min_ml}")
        if self.min_ml and not self.structures:
            raise ValueError("min_lesion_ml is a limit for the components of structures: name these with lesions")
        return replace(self, structures=tuple(name for name in labels.names if name in self.structures))

    def check_image(self, path: Path, properties: Mapping[str, Any]) -> None:
        """Raise ``ValueError`` if the voxels of an image have no volume to compare with the limit."""
        if self.min_ml and voxel_volume_ml(properties) is None:
            raise ValueError(
                f"{path}: its voxels have no volume in ml, as of 2D images and where no spacing is known, and "
                f"min_lesion_ml is {self.min_ml:g}: leave it out"
            )

    def settings(self) -> dict[str, Any]:
        """What decides the rows, for uncertainty.json."""
        return {"lesions": list(self.structures), "min_lesion_ml": self.min_ml} if self.structures else {}

    def channels(self, labels: EvaluatedLabels) -> dict[str, int]:
        """Channel of the predictive mean of each of the structures."""
        return {name: labels.channel(labels.names.index(name)) for name in self.structures}


def describe_case(
    prediction: Prediction,
    properties: Mapping[str, Any],
    labels: EvaluatedLabels,
    lesions: LesionChoice,
    *,
    samples: LabelStore,
    overlaps: Overlaps | None,
    members: LabelStore,
) -> dict[str, Any]:
    """Rows of a case, for its entry in uncertainty.json.

    Parameters
    ----------
    prediction
        Prediction in the geometry of the image, with sums and the channels of the structures that have lesions.
    properties
        Properties of the image.
    labels
        Structures of the model.
    lesions
        Which of them have lesions.
    samples, members
        Whole samples, and segmentations of the members if there are several; empty where there are none.
    overlaps
        Overlaps of the samples; None where there are none.
    """
    if prediction.sums is None:
        raise ValueError("rows of structures need the sums of the predictive mean")
    maps: dict[str, np.ndarray] = {
        measure: prediction.maps[name] for measure, name in FOLDERS.items() if name in prediction.maps
    }
    classes = labels.by_name
    voxel_ml = voxel_volume_ml(properties)
    rows = structure_rows(
        prediction.segmentation,
        classes,
        probabilities={name: prediction.sums[labels.channel(index)] for index, name in enumerate(classes)},
        maps=maps,
        voxel_ml=voxel_ml,
        samples=overlaps,
        members=members.overlaps(labels.classes) if len(members) else None,
    )
    entry: dict[str, Any] = {"structures": {row.structure: _without_name(row) for row in rows}}
    if lesions.structures:
        found: list[Lesion] = []
        for name, channel in lesions.channels(labels).items():
            mask = voxels_of(prediction.segmentation, classes[name])
            found += find_lesions(
                name,
                mask,
                affine=world_affine(properties),
                voxel_ml=voxel_ml,
                probability=_channel(prediction, channel),
                maps=maps,
                samples=(samples if len(samples) else members).masks(classes[name]),
                min_lesion_ml=lesions.min_ml,
            )[0]
        entry["lesions"] = [lesion.as_json() for lesion in found]
    return entry


def without_maps(entry: Mapping[str, Any], folders: Iterable[str]) -> dict[str, Any]:
    """Entry of a case without what it says of the maps in these folders, which are there no more."""
    gone = {measure for measure, name in FOLDERS.items() if name in set(folders)}

    def kept(values: Mapping[str, Any]) -> dict[str, Any]:
        return {measure: value for measure, value in values.items() if measure not in gone}

    result = {key: value for key, value in entry.items() if key not in {f"mean_{name}" for name in folders}}
    if "structures" in entry:
        rows = entry["structures"].items()
        result["structures"] = {
            name: {**row, **{place: kept(row[place]) for place in ("inside", "border")}} for name, row in rows
        }
    if "lesions" in entry:
        result["lesions"] = [{**lesion, "mean": kept(lesion["mean"])} for lesion in entry["lesions"]]
    return result


def write_tables(folder: Path, cases: Mapping[str, Mapping[str, Any]]) -> None:
    """Write structures.csv, a row per case and structure, and lesions.csv, a row per lesion, where cases have them.

    Numbers have the 9 significant digits of the maps' and probabilities' float32.

    Parameters
    ----------
    folder
        Folder of the predictions.
    cases
        Entries of the cases, by name.
    """
    if any("structures" in entry for entry in cases.values()):
        rows = (
            {"case": case, **StructureRow(structure=name, **row).as_columns()}
            for case, entry in cases.items()
            for name, row in entry.get("structures", {}).items()
        )
        write_table(folder / STRUCTURES_FILE, ["case", *StructureRow.columns()], rows, digits=FLOAT32_DIGITS)
    if any("lesions" in entry for entry in cases.values()):
        lesions = (
            {"case": case, **Lesion(**lesion).as_columns()}
            for case, entry in cases.items()
            for lesion in entry.get("lesions", ())
        )
        write_table(folder / LESIONS_FILE, ["case", *Lesion.columns()], lesions, digits=FLOAT32_DIGITS)


def _without_name(row: StructureRow) -> dict[str, Any]:
    return {key: value for key, value in row.as_json().items() if key != "structure"}


def _channel(prediction: Prediction, channel: int) -> np.ndarray:
    return prediction.channels[channel] if prediction.probabilities is None else prediction.probabilities[channel]
