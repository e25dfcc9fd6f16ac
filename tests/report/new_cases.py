"""Made-up folders of new cases: predictions with their tables, and decisions about them with inner and outer masks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_stochastic.decisions.decisions import Decisions, Presence, StructureDecisions
from nnunet_stochastic.decisions.lesions import Lesion
from nnunet_stochastic.decisions.structures import StructureRow
from nnunet_stochastic.evaluation.mask_files import MASKS, mask_folder
from nnunet_stochastic.io.text import write_table
from nnunet_stochastic.labels import EvaluatedLabels
from tests.report.results import write_result

LEVELS = (0.8, 0.9, 0.95)
#: Centres of the two lesions of each case, voxel (x, y, z): the second is a candidate.
CENTRES = ((12, 14, 3), (4, 20, 1))
#: Mean Dice between samples by case and structure.
AGREEMENT = {"case_0000": (0.9, 0.5), "case_0001": (0.8, 0.95), "case_0002": (0.3, 0.99)}
STRUCTURES = ("nodule", "rim")


def write_predictions(folder: Path, *, num_samples: int = 2, structures: tuple[str, ...] = STRUCTURES) -> Path:
    """Predictions of three cases, and their record and tables; a second structure is never segmented."""
    write_result(folder, files=True, num_cases=len(AGREEMENT), shifts=(), num_samples=num_samples)
    predictions = folder / "ID" / "predictions"
    dataset = json.loads((predictions / "dataset.json").read_text())
    dataset["labels"] = {"background": 0} | {name: index for index, name in enumerate(structures, start=1)}
    (predictions / "dataset.json").write_text(json.dumps(dataset))
    record = json.loads((predictions / "uncertainty.json").read_text())
    rows, lesions = [], []
    for index, (case, entry) in enumerate(record["cases"].items()):
        image = sitk.ReadImage(str(predictions / f"{case}.nii.gz"))
        size = int((sitk.GetArrayFromImage(image) == 1).sum())
        entry |= {"mean_total": 0.1 * (index + 1), "mean_aleatoric": 0.01, "structures": {}, "lesions": []}
        for place, name in enumerate(structures):
            row = StructureRow(
                structure=name,
                num_voxels=size if place == 0 else 0,
                expected_voxels=float(size),
                volume_ml=(1.5 + index) if place == 0 else 0.0,
                num_samples=num_samples,
                sample_quantiles_ml={"p5": 1.0, "p95": 2.0},
                pairwise_dice_samples=AGREEMENT[case][place] if num_samples else None,
            )
            rows.append({"case": case, **row.as_columns()})
            entry["structures"][name] = {key: value for key, value in row.as_json().items() if key != "structure"}
        for number, voxel in enumerate(CENTRES, start=1):
            x, y, z = image.TransformIndexToPhysicalPoint(voxel)
            centre = (-x, -y, z)  # ITK's coordinates are left, posterior
            lesion = Lesion(structures[0], number, number == 2, 5, 0.25, centre, voxel[::-1], existence=0.75 / number)
            lesions.append({"case": case, **lesion.as_columns()})
            entry["lesions"].append(lesion.as_json())
    (predictions / "uncertainty.json").write_text(json.dumps(record))
    write_table(predictions / "structures.csv", ["case", *StructureRow.columns()], rows)
    write_table(predictions / "lesions.csv", ["case", *Lesion.columns()], lesions)
    return predictions


def write_decisions(folder: Path, predictions: Path, *, structures: tuple[str, ...] = STRUCTURES) -> Path:
    """Decisions about them: case_0002 first, for the rim; intervals of case_0001 are infinite."""
    labels = EvaluatedLabels.from_dataset_json(json.loads((predictions / "dataset.json").read_text()))
    folder.mkdir()
    cases = sorted(AGREEMENT, reverse=True)
    rows, lesions = (_read(predictions / name) for name in ("structures.csv", "lesions.csv"))
    for row in rows:
        for level in LEVELS:
            is_there, percent = row["num_voxels"] != "0", f"{100 * level:g}"
            row[f"volume_from_ml_{percent}"] = 0.5 if is_there else None
            row[f"volume_to_ml_{percent}"] = (np.inf if row["case"] == "case_0001" else 2.25) if is_there else None
            row[f"dice_at_least_{percent}"] = 0.4321 if is_there else None
        row["predicted_dice"] = 0.61 if is_there else None
        row["expected_loss"] = 0.39 if is_there else 0.5
    for lesion in lesions:
        lesion["probability"] = 0.9
    reviewed = [
        {
            "place": place,
            "case": case,
            "structure": structures[-1] if place == 1 else structures[0],
            "expected_loss": 0.5,
            "percentile": 100.0 - place,
            "score": "EU_mean",
            "removed": place / 3,
            "reason": f"{structures[-1]}: there with probability 0.50" if place == 1 else f"{case} & <b>others</b>",
            "label_next": 4 - place,
        }
        for place, case in enumerate(cases, start=1)
    ]
    for name, table in (("structures", rows), ("lesions", lesions), ("review", reviewed)):
        write_table(folder / f"{name}.csv", list(table[0]), table)
    for case in AGREEMENT:
        image = sitk.ReadImage(str(predictions / f"{case}.nii.gz"))
        inside = sitk.GetArrayFromImage(image) == 1
        for place, name in enumerate(structures):
            for which, shift in zip(MASKS, (1, -1), strict=True):
                path = folder / mask_folder(which, name, labels) / f"{case}.nii.gz"
                path.parent.mkdir(parents=True, exist_ok=True)
                mask = sitk.GetImageFromArray((np.roll(inside, shift + place, axis=1) * (place + 1)).astype(np.uint8))
                mask.CopyInformation(image)
                sitk.WriteImage(mask, str(path))
    presence = Presence(num_cases=24, num_patients=21, reference_share=0.5, num_not_segmented=3, num_missed=1)
    decisions = Decisions(
        version=1,
        seed=0,
        labels={name: [index] for index, name in enumerate(structures, start=1)},
        num_cases=24,
        num_patients=21,
        levels=list(LEVELS),
        alphas=[0.1],
        structures={
            name: StructureDecisions(
                presence=presence, left_out=dict.fromkeys(("volume", "masks", "dice"), "too few of this")
            )
            for name in structures
        },
        image_scores={},
    )
    record = {"method": "decisions", "predictions": str(predictions), "alpha": 0.1, "masks": list(structures)}
    (folder / "decisions.json").write_text(json.dumps(record | {"decisions": decisions.model_dump(mode="json")}))
    return folder


def _read(path: Path) -> list[dict]:
    header, *lines = (line.split(",") for line in path.read_text().splitlines())
    return [dict(zip(header, line, strict=True)) for line in lines]
