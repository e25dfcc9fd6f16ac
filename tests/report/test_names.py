"""Names with signs that matplotlib and rich would take for orders are drawn and printed as they are."""

from __future__ import annotations

import io
import warnings

import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from rich.console import Console

from nnunet_stochastic.report import case_figure, summary_table
from nnunet_stochastic.report.comparison_table import to_terminal
from nnunet_stochastic.report.names import as_label
from tests.report.test_picture import make_picture

NAMES = ("x$_{$y", "a$b$c", "$", r"a\$b", r"\frac{", "[red]x[/]", "[/]", "100%", "a^b_c", "_x", "__", ":dog:")


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_drawn_as_they_are(name):
    text = Text(0, 0, as_label(name))
    drawn, is_mathematics = text._preprocess_math(text.get_text())
    assert (drawn.removeprefix("\u2060"), is_mathematics) == (name, False)
    figure = Figure()
    figure.text(0, 0, as_label(name))
    figure.canvas.draw() if hasattr(figure.canvas, "draw") else figure.savefig(io.BytesIO())


@pytest.mark.parametrize("name", NAMES)
def test_pictures(name):
    annotation = make_picture().annotations["reference"]
    names = {1: name, 2: "other"}
    picture = make_picture(name=name, class_names=names)
    figure = case_figure(picture)
    figure.savefig(io.BytesIO())
    assert annotation is not None
    labels = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert as_label(name) in labels
    assert figure.get_suptitle().startswith(as_label(name))


@pytest.mark.parametrize("name", [*NAMES, "a\nb"])
def test_legends(name):
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], label=as_label(name))
    (text,) = axes.legend().get_texts()
    drawn, _ = text._preprocess_math(text.get_text())
    assert drawn.removeprefix("\u2060") == name.replace("\n", " ")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of fonts that lack a sign
        figure.savefig(io.BytesIO())


@pytest.mark.parametrize("name", NAMES)
def test_tables(name):
    mean = {"dice": 0.5, "nll": 0.05, "brier": 0.02, "ece": 0.011, "mce": 0.3}
    result = {"mean": mean, "dataset": {"ece": 0.0123, "mce": 0.25}}
    results = {"reference": {name: result}}
    summary = {"num_cases": 7, "num_raters": 0, "convention": "entanglement", "results": results}
    console = Console(width=200, emoji=False, record=True, file=io.StringIO())
    console.print(summary_table(summary, annotation="reference"))
    assert f" {name} " in console.export_text(clear=True)
    table = pd.DataFrame({name: ["**0.5**", name]}, index=pd.Index([name, "other"], name="model"))
    console.print(*to_terminal(table, title=name, caption=name))
    assert console.export_text().count(name) == 5
