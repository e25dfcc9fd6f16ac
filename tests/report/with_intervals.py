"""Intervals at the places of all numbers of a made-up evaluation: each is 0.01 below to 0.02 above the number."""

from __future__ import annotations

from typing import Any

BELOW, ABOVE = 0.01, 0.02


def add_intervals(summary: dict[str, Any]) -> dict[str, Any]:
    """Add them to a summary of ``results.write_result``, and return it."""
    tasks = {name: entry for name, entry in summary["tasks"].items() if name != "DECISIONS"}
    numbers = {name: {key: found for key, found in entry.items() if key != "curves"} for name, entry in tasks.items()}
    summary["intervals"] = {"results": _around(summary["results"]), "tasks": _around(numbers)}
    if "DECISIONS" in summary["tasks"]:
        found = summary["tasks"]["DECISIONS"]["ID"]["structures"]["nodule"]
        for part in (found["dice"], *found["dice"]["baselines"].values(), *found["volume"].values()):
            names = ("mae", "rank_correlation", "aurc", "median_width_ml")
            part["intervals"] = _around({name: part[name] for name in names if name in part})
        lesions = ("segmentation", "sensitivity_at", "existence_calibration_error")
        found["lesions"]["intervals"] = _around({name: found["lesions"][name] for name in lesions})
    return summary


def _around(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _around(value) for key, value in tree.items()}
    return [tree - BELOW, tree + ABOVE] if isinstance(tree, int | float) else [None, None]
