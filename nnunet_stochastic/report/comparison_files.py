"""The files of a comparison of models: its tables as CSV, Markdown and LaTeX."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from nnunet_stochastic.evaluation.comparison import ALL, Comparison, quantity_name
from nnunet_stochastic.evaluation.entrants import LEAST_ENTRANTS
from nnunet_stochastic.evaluation.model import STAND_IN_FOOTNOTE, model_title
from nnunet_stochastic.evaluation.ranking import MODEL, TIE_MARGIN
from nnunet_stochastic.evaluation.tasks import RANKED
from nnunet_stochastic.io.text import write_text
from nnunet_stochastic.report.comparison_table import (
    SEGMENTATION,
    best_table,
    performance_table,
    rank_table,
    segmentation_table,
    to_latex,
    to_markdown,
)
from nnunet_stochastic.report.raters import EXPLANATION

__all__ = ["write_comparison"]

INTERVALS = "± is the Student-t 95 % interval over the seeds"


def write_comparison(comparison: Comparison, output: Path) -> list[tuple[pd.DataFrame, str, str]]:
    """Write the tables as .csv, .md and .tex, and all values, ranks and what is missing as .csv.

    Returns
    -------
    list[tuple[pd.DataFrame, str, str]]
        The tables of texts with their titles and captions, to be shown.
    """
    ranks, performance = comparison.ranks, comparison.performance
    numbers = {
        "comparison": comparison.values,
        "table2_performance": ranks[ranks["criterion"] == "performance"],
        "table2_entanglement": ranks[ranks["criterion"] == "delta"],
        "table3": comparison.best,
        "performance": performance,
        "segmentation": performance[performance["quantity"].isin(SEGMENTATION)],
    }
    numbers = {name: _with_stand_ins(table, comparison) for name, table in numbers.items()}
    for name, table in {**numbers, "missing": comparison.missing}.items():
        write_text(output / f"{name}.csv", _with_titles(table).to_csv(index=False, lineterminator="\n"))
    notes = "".join(f" {note}" for note in comparison.notes)
    failed = "".join(
        f" The segmentation of {model_title(*model)} has failed in {dataset}, so that it is in no rank and never the "
        f"best: {reason}."
        for (dataset, *model), reason in comparison.failed.items()
    )
    footnote = failed + (f" {STAND_IN_FOOTNOTE}." if any(comparison.stand_ins.values()) else "")
    not_applicable = "N/A: there is no such model, or it has no AU and EU."
    measures = ", ".join(quantity_name(task) for task in RANKED)
    among = "over the splits, tasks and seeds, among the models present; 1 is best"
    texts = {
        "performance": (
            performance_table(comparison),
            "Performance",
            f"On the ID cases unless OOD is said; against the raters where there are any; {INTERVALS}."
            + notes
            + footnote,
        ),
        "segmentation": (
            segmentation_table(comparison),
            "Segmentation",
            "On the ID cases, against the raters where there are any; ECE and MCE of all cases together; ± is the "
            "standard deviation over the seeds, bold the best of several models of a dataset; of GED by the distance "
            "of the convention." + (f" {EXPLANATION}" if any(comparison.spread.values()) else "") + notes + failed,
        ),
        "table2_performance": (
            rank_table(comparison, criterion="performance"),
            "Performance rank ↓",
            f"Mean rank of the performance ({measures}) {among}. {not_applicable} {INTERVALS}.{notes}{footnote}",
        ),
        "table2_entanglement": (
            rank_table(comparison, criterion="delta"),
            "Entanglement rank ↓",
            f"Mean rank of the entanglement Δ {among}. {not_applicable} {INTERVALS}.{footnote}",
        ),
        "table3": (
            best_table(comparison),
            "Best per task",
            f"Models with the best mean rank, and those within {TIE_MARGIN:g} ranks of it, the best first; – where "
            f"fewer than {LEAST_ENTRANTS} have a rank.{footnote}",
        ),
    }
    for name, (table, _, caption) in texts.items():
        write_text(output / f"{name}.md", to_markdown(table, caption=caption))
        write_text(output / f"{name}.tex", to_latex(table, caption=caption, label=f"tab:{name.replace('_', '-')}"))
    return list(texts.values())


def _with_titles(table: pd.DataFrame) -> pd.DataFrame:
    """With a column of what the tables call the model, behind the names of its methods."""
    position = table.columns.get_loc(MODEL[-1]) + 1
    models = table[list(MODEL)].itertuples(index=False, name=None)
    titles = [ALL if model == (ALL, ALL) else model_title(*model) for model in models]
    titled = table.copy()
    titled.insert(position, "model", titles)
    return titled


def _with_stand_ins(table: pd.DataFrame, comparison: Comparison) -> pd.DataFrame:
    """With a last column: whether EU of the row's model is no epistemic uncertainty; empty where that is not known."""
    models = table[["dataset", *MODEL]].itertuples(index=False, name=None)
    return table.assign(epistemic_is_stand_in=[comparison.stand_ins[model] for model in models])
