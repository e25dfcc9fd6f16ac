"""The terminal table shows the summary's numbers."""

import io

import pytest
from rich.console import Console

from nnunet_stochastic.report import structure_table, summary_table, task_table


@pytest.mark.parametrize(("convention", "dice"), [("entanglement", "0.8123"), ("mixture_of_bases", "81.23")])
def test_numbers_and_missing_values(convention, dice):
    mean = {"dice": 0.81234, "nll": 0.05, "brier": 0.02, "ece": 0.011, "mce": 0.3}
    result = {"mean": mean, "dataset": {"ece": 0.0123, "mce": 0.25}}
    absent = {"mean": mean | {"dice": None}, "dataset": {"ece": None, "mce": None}}
    summary = {
        "num_cases": 7,
        "num_raters": 4,
        "convention": convention,
        "results": {"raters": {"nodule": result, "cyst": absent}},
    }
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(summary_table(summary, annotation="raters"))
    lines = console.export_text().splitlines()
    assert "Against 4 raters, averaged: 7 cases" in lines[0]
    rows = {
        line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:-1]] for line in lines if "│" in line
    }
    assert rows["nodule"] == [dice, "0.0500", "0.0200", "0.0110", "0.3000", "0.0123", "0.2500"]
    assert rows["cyst"] == ["–", "0.0500", "0.0200", "0.0110", "0.3000", "–", "–"]


def test_surfaces_and_lesions():
    mean = {"hd95_mm": 3.1416, "assd_mm": None, "nsd": 0.87654, "lesion_dice": 0.5}
    summary = {"nsd_tolerance_mm": 1.5, "results": {"reference": {"nodule": {"mean": mean}}}}
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(structure_table(summary, annotation="reference"))
    text = console.export_text()
    assert "NSD within 1.5 mm" in text
    assert "HD95 (mm) ↓" in text
    assert "NSD ↑" in text
    row = next(line for line in text.splitlines() if "nodule" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["nodule", "3.14", "–", "0.8765", "0.5000"]


MEMBERS, ONE_MEMBER = ({"epistemic_is_stand_in": is_stand_in} for is_stand_in in (False, True))
NOTE = "† one member: its aleatoric samples stand in for members; not to be read as epistemic uncertainty"


def test_tasks_by_measure():
    values = {"AU": 0.61, "EU": 0.72, "TU": None}
    nothing = dict.fromkeys(values)
    summary = {
        "model": MEMBERS,
        "convention": "entanglement",
        "tasks": {
            "OODD": values | {"aggregation": "border"},
            "AMB": {"ID": values, "OOD": nothing},
            "FD": {
                "ID": {measure: {"aurc": value, "e_aurc": 0.5} for measure, value in values.items()},
                "OOD": {measure: {"aurc": None, "e_aurc": None} for measure in values},
            },
            "GED": {
                "ID": 0.2,
                "OOD": None,
                "iou": {"ID": 0.271, "OOD": None},
                "dice": {"ID": 0.25, "OOD": 0.3},
                "pooled_dice": {"ID": 0.2, "OOD": None},
                "distance": "pooled_dice",
            },
            "VOLUME": {"ID": {"nodule": 0.125}, "OOD": {"nodule": None}},
        },
        "bootstrap": {"unit": "patient", "sets": {"ID": {"cases": 9, "patients": 4}}},
        "delta": {
            "OODD": {"value": 0.1, "interval": [-0.05, 0.2]},
            "AMB": {"ID": {"value": None, "interval": [None, None]}, "OOD": {"value": None, "interval": [None, None]}},
        },
    }
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(task_table(summary))
    lines = [line for line in console.export_text(clear=False).splitlines() if "│" in line]
    rows = {line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:-1]] for line in lines}
    assert rows == {
        "OODD (AUROC ↑)": ["0.610", "0.720", "–", "", "0.100", "-0.05 to 0.20"],
        "AMB ID (NCC ↑)": ["0.610", "0.720", "–", "", "–", ""],
        "FD ID (AURC ↓)": ["0.610", "0.720", "–", "", "–", ""],
        "GED ID (1 - IoU ↓)": ["", "", "", "0.271", "", ""],
        "GED ID (1 - Dice ↓)": ["", "", "", "0.250", "", ""],
        "GED OOD (1 - Dice ↓)": ["", "", "", "0.300", "", ""],
        "GED ID (1 - pooled Dice ↓)": ["", "", "", "0.200", "", ""],
        "VOLUME ID nodule (CRPS in ml ↓)": ["", "", "", "0.125", "", ""],
    }
    assert "95 % interval over patients (ID: 9 cases of 4)" in " ".join(console.export_text(clear=False).split())
    narrow = Console(width=80, record=True, file=io.StringIO())
    narrow.print(task_table(summary))
    text = narrow.export_text()
    assert "…" not in text
    assert "-0.05 to 0.20" in text


@pytest.mark.parametrize(("model", "mark"), [(ONE_MEMBER, " †"), (MEMBERS, ""), ({"epistemic_is_stand_in": None}, "")])
def test_the_eu_of_one_member_is_marked(model, mark):
    summary = {
        "model": model,
        "convention": "entanglement",
        "tasks": {
            "OODD": {"AU": 0.61, "EU": 0.72, "TU": 0.7},
            "RATIO": {"ID": 0.12, "OOD": None},
        },
        "delta": {"OODD": {"value": 0.1, "interval": [-0.05, 0.2]}},
    }
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(task_table(summary))
    text = console.export_text()
    heading = next(line for line in text.splitlines() if "task" in line)
    assert [cell.strip() for cell in heading.split("┃")[1:-1]] == [
        *("task", "AU", f"EU{mark}", "TU", "", f"Δ{mark} ↑", "interval"),
    ]
    assert f"RATIO ID (EU/AU{mark})" in text
    assert (NOTE in " ".join(text.split())) == bool(mark)
    assert text.count("†") == (4 if mark else 0)
