"""Ranks of models over tasks: Tables 2 and 3 of "Rethinking Uncertainty Quantification and Entanglement in Image
Segmentation" (Christensen et al.), section 4.

Let r(m) be the rank of model m, an aleatoric with an epistemic method, among the models of the same dataset d and
seed s, on task t, split p and criterion q (the performance of the task's own measure, or Δ): 1 is the best, ties get
their average rank. Then

    R_dstq(m) = mean over p of r_dstpq(m)
    R_dsq(m)  = mean over t of R_dstq(m)                 the task "overall"
    criterion "both": mean of R for performance and R for Δ

and over the n seeds of a dataset: mean ± t_{0.975, n-1} · s / √n.

A mean over other splits or tasks than those of the other models would compare different things. So a model that lacks
a split has no R of that task, and one that lacks a task has no overall R; splits and tasks that no model of a dataset
has are left out for all of them.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import stats

__all__ = [
    "ALL_DATASETS",
    "BOTH",
    "DELTA",
    "MODEL",
    "OVERALL",
    "PERFORMANCE",
    "RUN",
    "TIE_MARGIN",
    "add_ranks",
    "best_models",
    "mean_ranks",
    "over_seeds",
    "student_half_width",
]

MODEL = ("aleatoric", "epistemic")
RUN = ("dataset", "seed", *MODEL)
PERFORMANCE, DELTA, BOTH = "performance", "delta", "both"
OVERALL = "overall"
ALL_DATASETS = "all datasets"

# The paper names several best models in some cells of Table 3 and gives no rule. A margin between 0.05 and 0.45 ranks
# gives its overall row from its Table 2.
TIE_MARGIN = 0.25
ROUNDING = 1e-9  # of means of ranks


def add_ranks(values: pd.DataFrame) -> pd.DataFrame:
    """Rank the runs of each dataset and seed by each quantity.

    Parameters
    ----------
    values
        Table with the columns ``dataset, seed, aleatoric, epistemic, task, split, quantity, value`` and ``direction``:
        1 where a larger value is better, -1 where a smaller one is, 0 where the run is not ranked by the quantity. The
        seed is a text; NaN in ``value`` is a run without that value, which gets no rank.

    Returns
    -------
    The same rows with a column ``rank``, NaN where there is none. Values tie when they are equal, and ties get the
    average of their ranks.

    Raises
    ------
    ValueError
        A run has two values of one quantity, or a direction is none of the three.
    """
    cell = ["dataset", "seed", "task", "split", "quantity"]
    if (duplicates := values[values.duplicated([*cell, *MODEL])]).size:
        first = duplicates.iloc[0]
        raise ValueError(
            f"{len(duplicates)} rows are there twice, the first for {', '.join(str(first[key]) for key in RUN)}: "
            f"{first['task']} {first['split']} {first['quantity']}; a run needs one value of each quantity"
        )
    if not values["direction"].isin((-1, 0, 1)).all():
        raise ValueError(f"a direction must be -1, 0 or 1, got {sorted(values['direction'].unique())}")
    cost = (-values["direction"] * values["value"]).where(values["direction"] != 0)
    return values.assign(rank=cost.groupby([values[key] for key in cell]).rank(method="average"))


def mean_ranks(ranked: pd.DataFrame) -> pd.DataFrame:
    """Average ranks over splits, then over tasks.

    Parameters
    ----------
    ranked
        Result of ``add_ranks``. Each run must have a row for each quantity, with NaN where it has no value.

    Returns
    -------
    Columns ``dataset, seed, aleatoric, epistemic, criterion, task, rank``: criterion ``performance``, ``delta`` and
    ``both``; the tasks and ``overall``. NaN where the run lacks a split or task that others of its dataset have.
    """
    rows = ranked[ranked["direction"] != 0]
    rows = rows.assign(criterion=np.where(rows["quantity"] == DELTA, DELTA, PERFORMANCE))
    exists = rows.groupby(["dataset", "criterion", "task", "split"])["rank"].transform("count") > 0
    run = list(RUN)
    per_task = _complete_mean(rows[exists], [*run, "criterion", "task"])
    overall = _complete_mean(per_task, [*run, "criterion"]).assign(task=OVERALL)
    ranks = pd.concat([per_task, overall], ignore_index=True)
    # A task without Δ (or without a performance) is not ranked by both.
    paired = ranks.groupby([*run, "task"])["rank"].transform("size") == 2
    both = _complete_mean(ranks[paired], [*run, "task"]).assign(criterion=BOTH)
    return pd.concat([ranks, both], ignore_index=True)[[*run, "criterion", "task", "rank"]]


def over_seeds(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Mean over the seeds, its Student-t interval and the standard deviation.

    Parameters
    ----------
    table
        Table with a column ``seed``, the column to average, and columns that name what is averaged.
    column
        Name of the column to average. Seeds with NaN are left out.

    Returns
    -------
    The naming columns and ``mean``, ``half_width`` (95 %) and ``sd`` (ddof 1), both NaN below two seeds, and
    ``num_seeds``, in the order of first appearance.
    """
    names = [name for name in table.columns if name not in ("seed", column)]
    groups = table.groupby(names, sort=False)[column]
    return groups.agg(mean="mean", half_width=student_half_width, sd="std", num_seeds="count").reset_index()


def student_half_width(values: np.ndarray | pd.Series, *, confidence: float = 0.95) -> float:
    """Half the width of the Student-t confidence interval of a mean: t · s / √n.

    NaN values are left out; NaN if fewer than two values remain. 0 where all are equal.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"the confidence must be between 0 and 1, got {confidence}")
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    if values.size < 2:
        return math.nan
    quantile = stats.t.ppf((1 + confidence) / 2, values.size - 1)
    return float(quantile * values.std(ddof=1) / math.sqrt(values.size))


def best_models(seed_means: pd.DataFrame, *, margin: float = TIE_MARGIN) -> pd.DataFrame:
    """Which models are the best on a task, as Table 3.

    Parameters
    ----------
    seed_means
        Table with the columns ``dataset, aleatoric, epistemic, criterion, task, mean``: ``over_seeds`` of
        ``mean_ranks``.
    margin
        Largest difference in mean rank from the best model with which a model is listed as the best, too.

    Returns
    -------
    Columns ``dataset, criterion, task, aleatoric, epistemic, rank, listed``, the best first. Where a single model has a
    rank it is not listed, for there is none that it is better than. With two or more
    datasets also the dataset ``all datasets``: mean over the datasets, of the models that have a rank in each dataset
    in which any model has one.
    """
    if not margin >= 0:
        raise ValueError(f"the margin must be at least 0 ranks, got {margin}")
    cell = ["criterion", "task"]
    ranks = seed_means.dropna(subset="mean")[["dataset", *cell, *MODEL, "mean"]].rename(columns={"mean": "rank"})
    tables = [ranks]
    if ranks["dataset"].nunique() > 1:
        across = ranks.groupby([*cell, *MODEL])["rank"].agg(["mean", "size"]).reset_index()
        num_datasets = ranks.groupby(cell)["dataset"].nunique().rename("num_datasets")
        across = across.join(num_datasets, on=cell).query("size == num_datasets")
        tables.append(across.rename(columns={"mean": "rank"}).assign(dataset=ALL_DATASETS)[ranks.columns])
    best = pd.concat(tables, ignore_index=True).sort_values(["dataset", *cell, "rank"], kind="stable")
    group = best.groupby(["dataset", *cell])["rank"]
    near = best["rank"] <= group.transform("min") + margin + ROUNDING
    return best.assign(listed=near & (group.transform("size") > 1)).reset_index(drop=True)


def _complete_mean(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Mean rank of each group; NaN where one of its ranks is NaN."""
    groups = table.groupby(by, sort=False)["rank"]
    return groups.mean().where(groups.count() == groups.size()).reset_index()
