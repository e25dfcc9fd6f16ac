"""The summary of an evaluation as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

__all__ = ["summary_table"]


def summary_table(summary: Mapping, *, annotation: str) -> Table:
    """Means over cases per class, and ECE and MCE over the data set.

    Parameters
    ----------
    summary
        ``Evaluation.summary``.
    annotation
        ``reference`` or ``raters``.
    """
    against = {"reference": "the reference", "raters": f"{summary['num_raters']} raters, averaged"}[annotation]
    table = Table(
        title=f"Against {against}: {summary['num_cases']} cases",
        caption="means over cases, NLL in nats; pooled: from the voxels of all cases together",
    )
    table.add_column("class", no_wrap=True)
    for heading in ("Dice", "NLL", "Brier", "ECE", "MCE", "ECE pooled", "MCE pooled"):
        table.add_column(heading, justify="right")
    for name, result in summary["results"][annotation].items():
        mean, dataset = result["mean"], result["dataset"]
        values = (*(mean[metric] for metric in ("dice", "nll", "brier", "ece", "mce")), dataset["ece"], dataset["mce"])
        table.add_row(name, *("–" if value is None else f"{value:.4f}" for value in values))
    return table
