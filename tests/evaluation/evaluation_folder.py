"""Evaluation folders made up from literal numbers, as nnunet_stochastic_evaluate writes them."""

import copy
import json

# (aleatoric, epistemic): EU AUROC; AU NCC of ID and OOD; TU ACE of ID and OOD; Δ of the same five. Ranks are by hand.
NUMBERS = {
    ("SSN", "none"): ((0.6, 0.5, 0.3, 0.10, 0.30), (-0.1, 0.1, 0.3, 0.0, -0.2)),
    ("SSN", "ensemble"): ((0.9, 0.6, 0.2, 0.05, 0.10), (0.2, 0.1, 0.0, 0.0, 0.1)),
    ("Softmax", "ensemble"): ((0.9, 0.4, 0.1, 0.20, 0.20), (0.1, 0.1, -0.1, 0.1, 0.2)),
}
DATASET = "Dataset501_LIDC"
CASES = {"ID": ("case_0", "case_1"), "blur": ("case_0",)}


def summary_of(aleatoric, epistemic, *, dataset=DATASET, seed=None, numbers=None, dice=0.8, is_stand_in=False):
    (auroc, ncc_id, ncc_ood, ace_id, ace_ood), deltas = numbers or NUMBERS[aleatoric, epistemic]
    shifts = {"shifts": {"blur": None}}
    model = {"name": "a", "dataset": dataset, "aleatoric": aleatoric, "epistemic": epistemic, "seed": seed}
    model["epistemic_is_stand_in"] = is_stand_in
    delta = [{"value": value, "interval": [-1.0, 1.0]} for value in deltas]
    geds = {"iou": {"ID": 0.35, "OOD": 0.45, **shifts}, "dice": {"ID": 0.3, "OOD": 0.4, **shifts}}
    calibration = {"ID": {"AU": 0.3, "TU": ace_id}, "OOD": {"AU": 0.3, "TU": ace_ood}, **shifts}
    per_image = {"ID": {"AU": 0.3, "TU": 1 - ace_id}, "OOD": {"AU": 0.3, "TU": 1 - ace_ood}, **shifts}
    scores = {"mean": {"dice": dice, "nll": 0.05}, "dataset": {"ece": 0.012, "mce": 0.1}}
    return {
        "convention": "entanglement",
        "num_bins": 15,
        "num_cases": 2,
        "num_raters": 4,
        "model": model,
        "left_out": {},
        "results": {
            "reference": {"all classes": {"mean": {"dice": -1.0, "nll": -1.0}, "dataset": {"ece": -1.0, "mce": -1.0}}},
            "raters": {"all classes": scores},
        },
        "tasks": {
            "OODD": {"AU": 0.5, "EU": auroc, "TU": 0.5, "aggregation": "border", **shifts},
            "AMB": {"ID": {"AU": ncc_id, "EU": 0.1}, "OOD": {"AU": ncc_ood, "EU": 0.1}, **shifts},
            "CAL": {**calibration, "per_image": per_image, "dataset": calibration},
            "GED": {"ID": 0.3, "OOD": 0.4, "distance": "dice", **shifts, **geds},
            "RATIO": {"ID": 0.12, "OOD": 0.2, **shifts},
        },
        "delta": {
            "OODD": delta[0],
            "AMB": {"ID": delta[1], "OOD": delta[2]},
            "CAL": {"ID": delta[3], "OOD": delta[4], "per_image": {"ID": delta[4], "OOD": delta[3]}},
        },
    }


def deterministic_summary(**options):
    """Softmax without epistemic method: maps of TU alone, calibrated better than all others."""
    summary = summary_of("Softmax", "none", numbers=((None, None, None, 0.01, 0.01), (None,) * 5), **options)
    summary["tasks"] = {"CAL": {"ID": {"TU": 0.01}, "OOD": {"TU": 0.01}, "shifts": {"blur": None}}}
    return summary


def write_folder(folder, summary, *, cases=CASES):
    folder.mkdir(parents=True)
    content = {**summary, "num_cases": len(cases["ID"])}
    (folder / "summary.json").write_text(json.dumps(content))
    rows = [f"{name},{case}" for name, members in cases.items() for case in members]
    (folder / "images.csv").write_text("\n".join(["set,case", *rows]) + "\n")
    return folder


def write_models(root, *, change=None, **options):
    """A folder per model of NUMBERS; ``change(summary)`` may alter each."""
    folders = []
    for (aleatoric, epistemic), numbers in NUMBERS.items():
        summary = copy.deepcopy(summary_of(aleatoric, epistemic, numbers=numbers, **options))
        if change is not None:
            change(summary)
        folders.append(write_folder(root / f"{aleatoric}_{epistemic}", summary))
    return folders
