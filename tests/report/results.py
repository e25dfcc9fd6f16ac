"""Made-up evaluation folders of the schema that the evaluate command writes, with or without the files behind them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

from nnunet_stochastic.conventions import AGGREGATIONS

MEASURES = {"AU": "aleatoric", "EU": "epistemic", "TU": "total"}
SHAPE = (6, 28, 24)
SPACING = (0.8, 0.8, 2.5)
NUM_RATERS = 3


def write_result(
    folder: Path,
    *,
    name: str = "MoBVolume / swag",
    dataset: str = "Dataset501_Nodules",
    seed: int = 0,
    shifts: tuple[str, ...] = ("blur", "noise"),
    num_cases: int = 5,
    case_names: tuple[str, ...] | None = None,
    quality: float = 0.8,
    left_out: dict[str, str] | None = None,
    is_stand_in: bool = False,
    files: bool = False,
    num_samples: int = 0,
    shape: tuple[int, int, int] = SHAPE,
    decided: bool = False,
) -> Path:
    """Write ``folder``/evaluation and, with ``files``, images and predictions below ``folder``; returns the former.

    ``quality`` in (0, 1) moves all numbers, so that models differ. Tasks in ``left_out`` are absent. With
    ``is_stand_in`` the model has one member. With ``num_samples`` there are files of so many samples. With ``decided``
    decisions about the ID set were judged.
    """
    rng = np.random.default_rng([seed, int(quality * 1000), len(name)])
    aleatoric, epistemic = name.split(" / ")
    cases = case_names or tuple(f"case_{index:04d}" for index in range(num_cases))
    sets = ("ID", *shifts)
    images, scores = _tables(rng, cases, sets, quality)
    if files:
        for index, set_name in enumerate(sets):
            _write_predictions(folder / set_name, cases, images[images["set"] == set_name], shape, shift=index)
            for case in cases:
                _write_samples(folder / set_name / "predictions", case, num_samples)

    evaluation = folder / "evaluation"
    evaluation.mkdir(parents=True)
    places = {set_name: _places(folder / set_name, files) for set_name in sets}
    summary = {
        "folders": {**places["ID"], "shifts": {shift: places[shift] for shift in shifts}},
        "conventions": {"dice": "segmentation file against annotation"},
        "convention": "entanglement",
        "num_bins": 15,
        "num_cases": len(cases),
        "num_raters": NUM_RATERS,
        "nsd_tolerance_mm": 2.0,
        "model": {
            "name": name,
            "dataset": dataset,
            "trainer": "nnUNetTrainerMoBVolume",
            "configuration": "3d_fullres",
            "folds": [0],
            "aleatoric": aleatoric,
            "epistemic": epistemic,
            "epistemic_is_stand_in": is_stand_in,
            "members": 1 if is_stand_in else 10,
            "seed": seed,
        },
        "results": _results(quality),
        "set_results": {shift: _results(quality - 0.1) for shift in shifts},
        "tasks": _tasks(quality, shifts),
        "left_out": left_out or {},
        "delta": {
            "OODD": {"value": 0.12 * quality, "interval": [0.02, 0.2]},
            "AMB": {"ID": {"value": 0.31, "interval": [0.2, 0.4]}, "OOD": {"value": None, "interval": [None, None]}},
            "CAL": {"ID": {"value": -0.05, "interval": [-0.1, 0.0]}, "OOD": {"value": 0.01, "interval": [-0.1, 0.1]}},
        },
    }
    if decided:
        summary["tasks"]["DECISIONS"] = _judgement(cases, quality)
    for task in left_out or {}:
        summary["tasks"].pop(task, None)
    (evaluation / "summary.json").write_text(json.dumps(summary, allow_nan=False), encoding="utf-8")
    images.to_csv(evaluation / "images.csv", index=False)
    scores.to_csv(evaluation / "scores.csv", index=False)
    curves = {
        "reliability": {
            set_name: {"raters": {"all classes": _bins(rng, 15, quality), "nodule": _bins(rng, 15, quality)}}
            for set_name in sets
        },
        "confidence": {set_name: {measure: _bins(rng, 20, quality) for measure in MEASURES} for set_name in sets},
        "num_bins": {"reliability": 15, "confidence": 20},
    }
    (evaluation / "curves.json").write_text(json.dumps(curves), encoding="utf-8")
    return evaluation


def _tables(
    rng: np.random.Generator, cases: tuple[str, ...], sets: tuple[str, ...], quality: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    images, scores = [], []
    for shift, set_name in enumerate(sets):
        for case in cases:
            hardness = rng.uniform(0.2, 1) * (1 + 0.4 * shift)
            au, eu = 0.01 * hardness, 0.01 * hardness * (0.1 + 0.2 * shift) * rng.uniform(0.5, 1.5)
            dice = float(np.clip(quality + 0.15 - 0.25 * hardness + rng.normal(0, 0.03), 0, 1))
            images.append(
                {
                    "set": set_name,
                    "case": case,
                    "dice": dice,
                    "risk": 1 - dice,
                    "ged_iou": 0.65 - 0.5 * dice,
                    "ged_dice": 0.6 - 0.5 * dice,
                    "ged_pooled_dice": 0.55 - 0.5 * dice,
                    "AU": au,
                    "EU": eu,
                    "TU": au + eu,
                    "ratio": eu / au,
                    "volume_ml": rng.lognormal(0, 0.7),
                }
            )
            for measure, value in zip(MEASURES, (au, eu, au + eu), strict=True):
                row = {"set": set_name, "case": case, "measure": measure}
                row |= {name: value * factor for factor, name in enumerate(AGGREGATIONS, start=1)}
                scores.append(row | {"ncc": rng.uniform(0.2, 0.6), "ace": rng.uniform(0.05, 0.3)})
    return pd.DataFrame(images), pd.DataFrame(scores)


def _results(quality: float) -> dict:
    mean = {"dice": quality, "nll": 0.02 / quality, "brier": 0.01, "ece": 0.02, "mce": 0.2}
    mean |= {"hd95_mm": 4 / quality, "assd_mm": 1 / quality, "nsd": quality + 0.1, "lesion_dice": quality - 0.1}
    entry = {"mean": mean, "dataset": {"ece": 0.012 / quality, "mce": 0.1}}
    return {group: {"all classes": entry, "nodule": entry} for group in ("reference", "raters")}


def _tasks(quality: float, shifts: tuple[str, ...]) -> dict:
    detection = {"AU": 0.6, "EU": 0.6 + 0.3 * quality, "TU": 0.65}
    ambiguity = {"AU": 0.3 + 0.3 * quality, "EU": 0.35, "TU": 0.5}
    calibration = {"AU": 0.2, "EU": 0.25, "TU": 0.25 - 0.1 * quality}
    failures = {measure: {"aurc": 0.2 - 0.1 * quality, "e_aurc": 0.05} for measure in MEASURES}
    return {
        "OODD": detection
        | {
            "aggregation": "border",
            "shifts": dict.fromkeys(shifts, detection),
            "aggregations": {
                name: {measure: value - 0.03 * index for measure, value in detection.items()}
                for index, name in enumerate(AGGREGATIONS)
            },
        },
        "AMB": _splits(ambiguity, shifts),
        "CAL": _splits(calibration, shifts) | {"per_image": {"ID": calibration, "OOD": calibration}},
        "FD": _splits(failures, shifts),
        "GED": _splits(0.5 - 0.3 * quality, shifts)
        | {
            "iou": _splits(0.6 - 0.3 * quality, shifts),
            "dice": _splits(0.5 - 0.3 * quality, shifts),
            "pooled_dice": _splits(0.4 - 0.3 * quality, shifts),
            "distance": "dice",
            "num_samples": 16,
        },
        "FILTER": _splits(
            {
                measure: {
                    "filtered_dice": place + quality / 10,
                    "filtered_tp": place + 0.2,
                    "filtered_tn": None,
                    "filter_score": 0.9,
                }
                for place, measure in enumerate(MEASURES)
            },
            shifts,
        )
        | {
            "curves": {
                "thresholds": [0.0, 0.5, 1.0],
                "ID": {
                    measure: {
                        "filtered_dice_curve": [1.0, 0.9, quality],
                        "filtered_tp_curve": [0.9, 0.1 * place, 0.0],
                        "filtered_tn_curve": [0.5, 0.2, 0.0],
                    }
                    for place, measure in enumerate(MEASURES)
                },
                "shifts": {},
            }
        },
        "VOLUME": {"ID": {"nodule": 0.11}},
        "RATIO": _splits(0.3 * quality, shifts),
    }


def _judgement(cases: tuple[str, ...], quality: float) -> dict:
    """Of two structures, of which the second was never segmented."""
    of = {"num_cases": len(cases), "num_patients": len(cases)}
    held = {
        f"{level:g}": {"coverage": level * quality, "interval": [0.5 * quality, 0.95], "mean_bound": 0.5, **of}
        | {"mean_width_ml": 3.5, "median_width_ml": 2.5, "share_infinite": 0.0}
        for level in (0.8, 0.9, 0.95)
    }
    quality_of = {"mae": 0.07, "rank_correlation": 0.6, "aurc": 0.15}
    risk = {"threshold": 0.5, "standard_error": 0.01, "num_patients": len(cases)}
    judged = {
        "num_segmented": len(cases),
        "volume": held,
        "masks": {
            alpha: {"outer": risk | {"risk": 0.8 * float(alpha)}, "inner": risk | {"risk": 0.4 * float(alpha)}}
            for alpha in ("0.05", "0.1", "0.2")
        },
        "dice": {
            **quality_of | of,
            **{"model": "isotonic", "mean_dice": 0.5, "lower_bound": held},
            "baselines": {"pairwise_dice": quality_of | {"aurc": 0.21}},
        },
        "lesions": {
            **of,
            **{"num_lesions": 9, "num_reference_lesions": 8, "num_candidates": 2, "has_candidates": True},
            "segmentation": {"sensitivity": 0.625, "false_per_case": 0.75},
            "froc": [
                {"share": 1.0, "probability": 0.9, "sensitivity": 0.5, "false_per_case": 0.25},
                {"share": 0.5, "probability": None, "sensitivity": 0.75, "false_per_case": 1.5},
            ],
            "sensitivity_at": {"0.5": 0.5, "1": 0.5, "2": 0.75, "4": 0.75},
            **{"existence_calibration_error": 0.03, "existence_bins": None},
        },
        "raters": None,
        "left_out": {"raters": "there is one annotation"},
    }
    nothing = dict.fromkeys(("volume", "masks", "dice", "lesions", "raters")) | {"num_segmented": 0, "left_out": {}}
    measured = ("volume_ml", "expected_volume_ml", "sample_sd_ml", "dice", "predicted_dice")
    by_level = ("intervals_ml", "share_inside", "dice_at_least", "baselines", "outer_loss", "inner_loss")
    unknown = {
        case: {"case": case, "patient": case, "segmented": False, "reference_ml": []}
        | dict.fromkeys(measured)
        | {name: {} for name in by_level}
        for case in cases
    }
    known = [
        row | {"segmented": True, "predicted_dice": 0.7, "dice": 0.4 + 0.1 * place, "dice_at_least": {"0.9": 0.55}}
        for place, row in enumerate(unknown.values())
    ]
    structures = {"nodule": judged | {"cases": known}, "rim": nothing | {"cases": list(unknown.values())}}
    return {
        **{"levels": [0.8, 0.9, 0.95], "alphas": [0.05, 0.1, 0.2], "alpha": 0.1, "unit": "cases"},
        **{"num_validation_cases": 24, "num_validation_patients": 21, "shifts": {}},
        "ID": {**of, "num_shared_cases": 0, "structures": structures},
    }


def _splits(value: object, shifts: tuple[str, ...]) -> dict:
    return {"ID": value, "OOD": value, "shifts": dict.fromkeys(shifts, value)}


def _bins(rng: np.random.Generator, num_bins: int, quality: float) -> dict:
    """Overconfident by 1 - quality at the top."""
    centres = (np.arange(num_bins) + 0.5) / num_bins
    count = rng.integers(1000, 100_000, num_bins)
    accuracy = centres * (0.7 + 0.3 * quality)
    return {
        "count": count.tolist(),
        "confidence_sum": (centres * count).tolist(),
        "correct_sum": (accuracy * count).astype(int).tolist(),
    }


def _places(folder: Path, files: bool) -> dict[str, str | None]:
    return {
        "prediction": str(folder / "predictions"),
        "reference": str(folder / "labels") if files else None,
        "raters": str(folder / "raters") if files else None,
    }


def _write_predictions(
    folder: Path, cases: tuple[str, ...], table: pd.DataFrame, shape: tuple[int, int, int], *, shift: int
) -> None:
    """A ball per case in noise; the maps are largest at its border, where their maximum is 10 times the image mean."""
    rng = np.random.default_rng(shift)
    record = {}
    grid = np.moveaxis(np.indices(shape), 0, -1) - (np.array(shape) - 1) / 2
    distance = np.linalg.norm(grid * shape[1] / np.array(shape), axis=-1)
    for case, (_, row) in zip(cases, table.iterrows(), strict=True):
        radius = shape[1] * rng.uniform(0.15, 0.3)
        border = np.exp(-((distance - radius) ** 2) / 4)
        image = 200.0 * (distance < radius) + rng.normal(-600, 60, shape)
        _write(folder / "images" / f"{case}_0000.nii.gz", image.astype(np.float32))
        _write(folder / "predictions" / f"{case}.nii.gz", (distance < radius).astype(np.uint8))
        for measure, name in MEASURES.items():
            _write(folder / "predictions" / name / f"{case}.nii.gz", (10 * row[measure] * border).astype(np.float32))
        _write(folder / "labels" / f"{case}.nii.gz", (distance < radius + 1).astype(np.uint8))
        for rater in range(NUM_RATERS):
            inside = (distance < radius + 1.5 * (rater - 1)).astype(np.uint8)
            _write(folder / "raters" / f"{case}_rater{rater}.nii.gz", inside)
        record[case] = {"input_files": [str(folder / "images" / f"{case}_0000.nii.gz")]}
    dataset_json = {"labels": {"background": 0, "nodule": 1}, "channel_names": {"0": "CT"}, "file_ending": ".nii.gz"}
    (folder / "predictions" / "dataset.json").write_text(json.dumps(dataset_json), encoding="utf-8")
    (folder / "predictions" / "plans.json").write_text(json.dumps({"image_reader_writer": "SimpleITKIO"}))
    (folder / "predictions" / "uncertainty.json").write_text(json.dumps({"cases": record}), encoding="utf-8")


def _write_samples(predictions: Path, case: str, num_samples: int) -> None:
    """The segmentation, moved by 1, 2 … voxels along x."""
    segmentation = sitk.GetArrayFromImage(sitk.ReadImage(str(predictions / f"{case}.nii.gz")))
    for index in range(num_samples):
        _write(predictions / "samples" / f"{case}_{index:03d}.nii.gz", np.roll(segmentation, index + 1, axis=2))


def _write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING)
    sitk.WriteImage(image, str(path))
