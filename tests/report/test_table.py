"""The terminal table shows the summary's numbers."""

import io

from rich.console import Console

from nnunet_stochastic.report import summary_table


def test_numbers_and_missing_values():
    mean = {"dice": 0.81234, "nll": 0.05, "brier": 0.02, "ece": 0.011, "mce": 0.3}
    result = {"mean": mean, "dataset": {"ece": 0.0123, "mce": 0.25}}
    absent = {"mean": mean | {"dice": None}, "dataset": {"ece": None, "mce": None}}
    summary = {"num_cases": 7, "num_raters": 4, "results": {"raters": {"nodule": result, "cyst": absent}}}
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(summary_table(summary, annotation="raters"))
    lines = console.export_text().splitlines()
    assert "Against 4 raters, averaged: 7 cases" in lines[0]
    rows = {
        line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:-1]] for line in lines if "│" in line
    }
    assert rows["nodule"] == ["0.8123", "0.0500", "0.0200", "0.0110", "0.3000", "0.0123", "0.2500"]
    assert rows["cyst"] == ["–", "0.0500", "0.0200", "0.0110", "0.3000", "–", "–"]
