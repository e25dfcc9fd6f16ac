"""Tables on terminals of any width: every heading and number in full, intervals below numbers, nothing twice."""

import io
import json
import re

import pytest
from rich.console import Console
from rich.table import Table

from nnunet_stochastic.report import decision_tables, print_table, structure_table, summary_table, task_table
from nnunet_stochastic.report.terminal import with_interval
from tests.report.results import write_result
from tests.report.with_intervals import add_intervals

WORDS = r"[^\s│┃]+"


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = write_result(tmp_path_factory.mktemp("made") / "a", decided=True)
    summary = json.loads((folder / "summary.json").read_text())
    summary["bootstrap"] = {"unit": "patient", "sets": {"ID": {"cases": 5, "patients": 3}}}
    add_intervals(summary)
    return [
        summary_table(summary, annotation="raters"),
        structure_table(summary, annotation="raters"),
        task_table(summary),
        *decision_tables(summary),
    ]


def printed(table, width):
    console = Console(width=width, file=io.StringIO(), record=True)
    print_table(console, table)
    return console.export_text()


def words_of(table):
    cells = [str(cell) for column in table.columns for cell in (column.header, *column.cells)]
    return {word for cell in cells for word in re.findall(WORDS, cell)}


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_no_word_is_cut(tables, width):
    for table in tables:
        text = printed(table, width)
        assert max(map(len, text.splitlines())) <= width
        assert words_of(table) <= set(re.findall(WORDS, text))
        assert "…" not in text
        assert " ".join(table.caption.split()) in " ".join(text.split())


def test_wide_terminals_have_each_table_in_one(tables):
    assert all("continued" not in printed(table, 200) for table in tables)
    parts = printed(tables[0], 60)
    assert parts.count("continued") == 2
    assert parts.count("nodule") == 3
    assert parts.count("NLL ↓") == 1


def test_rows_without_a_number_are_left_out_of_a_part():
    table = Table("name", "one", "other", title="both")
    table.add_row("first", "1" * 20, "2" * 20)
    table.add_row("second", "3" * 20, "")
    assert printed(table, 40).count("second") == 1
    assert printed(table, 70).count("second") == 1
    assert printed(table, 40).count("first") == 2


def test_a_first_column_that_is_too_long_is_broken():
    table = Table("name", "one")
    table.add_row("a" * 50, "1")
    text = printed(table, 30)
    assert text.count("a") == 51  # one in the heading
    assert max(map(len, text.splitlines())) <= 30


def test_intervals_stand_below_their_numbers(tables):
    lines = printed(tables[0], 200).splitlines()
    place = next(place for place, line in enumerate(lines) if "nodule" in line)
    numbers, ends = ([cell.strip() for cell in lines[row].split("│")[2:-1]] for row in (place, place + 1))
    assert (numbers[0], ends[0]) == ("0.8000", "0.790–0.820")
    assert (numbers[-1], ends[-1]) == ("0.1000", "0.090–0.120")
    text = " ".join(" ".join(printed(table, 200).split()) for table in tables)
    assert "95 % bootstrap interval" in text
    for ends in ("0.830–0.860", "0.110–0.140", "0.350–0.380", "0.590–0.620", "0.490–0.520", "0.020–0.050"):
        assert ends in text  # AUROC of EU, AURC, GED, rank correlation, sensitivity, calibration of lesions


def test_form_of_intervals():
    assert with_interval("0.5", (0.25, 0.75), "{:.2f}") == "0.5\n0.25–0.75"
    assert with_interval("0.5", (-0.25, 0.75), "{:.2f}") == "0.5\n-0.25 to 0.75"
    assert with_interval("0.5", None, "{:.2f}") == with_interval("0.5", (None, None), "{:.2f}") == "0.5"
