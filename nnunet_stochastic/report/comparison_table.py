"""The tables of a comparison of models, for the terminal, Markdown and LaTeX.

Their layout is that of Tables 2 and 3 of "Rethinking Uncertainty Quantification and Entanglement in Image
Segmentation": epistemic methods down, datasets and aleatoric methods across; tasks down, criteria across. Quality of
the segmentation has the form of Tables 2 to 4 of "Structured Covariance Modeling Using Learned Mixture-of-Bases for
Uncertainty in 3D Segmentation": mean ± standard deviation over the seeds, the best in bold. Behind the name of a
number stands the direction in which it is better. ECE and MCE as
theirs, and Dice in percent, are those of the convention mixture_of_bases alone. Behind a number or model for which the
EU of one member's aleatoric samples counts stands ``STAND_IN_MARK``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import pandas as pd
from rich import box
from rich.markup import escape
from rich.table import Table

from nnunet_stochastic.epistemic import EPISTEMIC_TITLES
from nnunet_stochastic.evaluation.comparison import Comparison, quantity_name
from nnunet_stochastic.evaluation.entrants import LEAST_ENTRANTS
from nnunet_stochastic.evaluation.model import STAND_IN_MARK, aleatoric_title, epistemic_title, model_title
from nnunet_stochastic.evaluation.ranking import ALL_DATASETS, OVERALL, PERFORMANCE
from nnunet_stochastic.evaluation.scores import DIRECTIONS
from nnunet_stochastic.evaluation.tasks import ARROWS, RANKED, TASKS, find_task
from nnunet_stochastic.io.names import shown
from nnunet_stochastic.report.raters import OF_RATERS, RATERS_ROW, SPREAD

__all__ = [
    "SEGMENTATION",
    "best_table",
    "performance_table",
    "rank_table",
    "segmentation_table",
    "to_latex",
    "to_markdown",
    "to_terminal",
]

# Task and variant of the quantities that tell how good segmentations are, such as GED by each distance.
QUALITY = {
    task.variant_name(variant): (task, variant) for task in TASKS if task.is_quality for variant in task.variants
}
# The quantities of the table of segmentations.
SEGMENTATION = ("Dice", "NLL", "ECE", "MCE", *QUALITY)

# The order of the paper; methods that it does not have come after these.
ALEATORIC = ("Softmax", "SSN", "ProbUNet", "Diffusion")
EPISTEMIC = tuple(EPISTEMIC_TITLES)
CRITERIA = {"performance": "Performance", "delta": "Entanglement (Δ)", "both": "Both"}
TITLES = {**{task.name: task.title for task in RANKED}, OVERALL: "Overall"}
FOUR_DECIMALS = ("NLL", "ECE", *(quantity_name(task) for task in TASKS if task.decimals == 4))
TWO_SPLITS = tuple(quantity_name(task) for task in TASKS if len(task.splits if task.is_ranked else task.compared) > 1)
ABSENT, NOT_APPLICABLE, FAILED = "–", "N/A", "failed"
# The direction in which a quantity is better, by its name.
BETTER: dict[str, int] = {
    **{{"dice": "Dice"}.get(metric, metric.upper()): direction for metric, direction in DIRECTIONS.items()},
    **{quantity_name(task): task.direction for task in TASKS},
    **{name: task.direction for name, (task, _) in QUALITY.items()},
}
BOLD = re.compile(r"\*\*(.+?)\*\*")  # as in Markdown
LATEX_ESCAPES = str.maketrans({character: f"\\{character}" for character in "&%$#_{}"})


def rank_table(comparison: Comparison, *, criterion: str) -> pd.DataFrame:
    """Table 2: mean rank over splits and tasks, ± its Student-t interval where there are several seeds.

    Parameters
    ----------
    comparison
        Result of ``compare``.
    criterion
        ``performance``, ``delta`` or ``both``.

    Returns
    -------
    Texts; a row per epistemic method, a column per (dataset, aleatoric method). ``N/A``: there is no such model, or it
    has no AU and EU; ``failed``: its segmentation has; ``–``: it was not given, or lacks a task.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"the criterion must be one of {', '.join(CRITERIA)}, got {shown(criterion)}")
    ranks = comparison.ranks
    chosen = ranks[(ranks["criterion"] == criterion) & (ranks["task"] == OVERALL)]
    texts = {
        (row.dataset, row.aleatoric, row.epistemic): _mean_text(
            row.mean, row.half_width, decimals=1, mark=_mark(comparison, row.dataset, row.aleatoric, row.epistemic)
        )
        for row in chosen.itertuples(index=False)
    }
    models = comparison.performance
    columns = [
        (dataset, aleatoric)
        for dataset in sorted(models["dataset"].unique())
        for aleatoric in _ordered(models.loc[models["dataset"] == dataset, "aleatoric"], ALEATORIC)
    ]
    rows = _ordered(models["epistemic"], EPISTEMIC)

    def cell(dataset: str, aleatoric: str, epistemic: str) -> str:
        if (dataset, aleatoric, epistemic) in comparison.failed:
            return FAILED
        is_applicable = (aleatoric, epistemic) not in comparison.undecomposed | comparison.impossible
        return texts.get((dataset, aleatoric, epistemic), ABSENT if is_applicable else NOT_APPLICABLE)

    return pd.DataFrame(
        [[cell(*column, epistemic) for column in columns] for epistemic in rows],
        index=pd.Index(map(epistemic_title, rows), name="epistemic"),
        columns=pd.MultiIndex.from_tuples([(dataset, aleatoric_title(name)) for dataset, name in columns]),
    )


def best_table(comparison: Comparison) -> pd.DataFrame:
    """Table 3: the best models of each task by performance, Δ and both, and where there are several datasets over all.

    Returns
    -------
    Texts; a row per (dataset, task), a column per criterion. Models whose ranks are within
    ``ranking.TIE_MARGIN`` of the best are listed with it, the best first; ``–`` where a single model has a rank.
    """
    best = comparison.best

    def name(row: Any) -> str:
        # EU counts in each Δ, and in the performance of the task that it is the right measure of.
        has_epistemic = row.criterion != PERFORMANCE or row.task == OVERALL or find_task(row.task).right == "EU"
        mark = _mark(comparison, row.dataset, row.aleatoric, row.epistemic) if has_epistemic else ""
        return model_title(row.aleatoric, row.epistemic) + mark

    texts = {
        key: ", ".join(map(name, group.itertuples(index=False)))
        for key, group in best[best["listed"]].groupby(["dataset", "task", "criterion"], sort=False)
    }
    # Where no model has a rank there is still a table, which says so.
    ranked = best if len(best) else comparison.performance.assign(task=OVERALL)
    datasets = sorted(ranked["dataset"].unique(), key=lambda name: (name != ALL_DATASETS, name))
    rows = [(dataset, task) for dataset in datasets for task in _ordered(ranked["task"], TITLES)]
    return pd.DataFrame(
        [[texts.get((*row, criterion), ABSENT) for criterion in CRITERIA] for row in rows],
        index=pd.MultiIndex.from_tuples([(dataset, TITLES[task]) for dataset, task in rows], names=["dataset", "task"]),
        columns=list(CRITERIA.values()),
    )


def performance_table(comparison: Comparison) -> pd.DataFrame:
    """Mean over seeds of the plain numbers, ± the Student-t interval where there are several.

    Returns
    -------
    Texts; a row per (dataset, model), a column per quantity that any model has.
    """
    table = comparison.performance
    columns: dict[str, dict[tuple[str, str, str], str]] = {}
    for row in table.itertuples(index=False):
        name = f"{row.quantity} {row.split}" if row.quantity in TWO_SPLITS else row.quantity
        texts = columns.setdefault(name, {})
        if not math.isnan(row.mean):
            scale, decimals = _form(row.quantity, comparison)
            model = (row.dataset, row.aleatoric, row.epistemic)
            mark = _mark(comparison, *model) if row.quantity.startswith("EU") else ""
            texts[model] = _mean_text(scale * row.mean, scale * row.half_width, decimals=decimals, mark=mark)
    models = _models(table)
    columns = {name: texts for name, texts in columns.items() if texts}
    headings = [_heading(name, comparison) for name in columns]

    def cell(name: str, model: tuple[str, str, str]) -> str:
        needs_both = name.startswith(("AU", "EU")) and model[1:] in comparison.undecomposed
        return columns[name].get(model, NOT_APPLICABLE if needs_both else ABSENT)

    return _by_model([[cell(name, model) for name in columns] for model in models], models, headings)


def segmentation_table(comparison: Comparison) -> pd.DataFrame:
    """Quality of the segmentation: mean over seeds, ± the standard deviation where there are several.

    Returns
    -------
    Texts; a row per (dataset, model), a column per quantity of ``SEGMENTATION`` that any model has. The best of a
    dataset, and what is equal to it in print, stands between two pairs of asterisks; of the GEDs that by the
    convention's distance. Models whose segmentation has failed do not compete, and a single model is not the best.
    """
    table = comparison.performance[comparison.performance["quantity"].isin(SEGMENTATION)]
    models = _models(table)
    columns: dict[str, list[str]] = {}
    for quantity in SEGMENTATION:
        rows = table[table["quantity"] == quantity].set_index(["dataset", "aleatoric", "epistemic"])
        if not rows["mean"].notna().any():
            continue
        scale, decimals = _form(quantity, comparison)
        printed = (scale * rows["mean"]).round(decimals)
        is_of_convention = True
        if quantity in QUALITY:
            task, variant = QUALITY[quantity]
            is_of_convention = variant == task.variant_of(comparison.convention)
        competing = (BETTER[quantity] * printed)[[model not in comparison.failed for model in printed.index]]
        group = competing.groupby(level="dataset")
        is_best = (group.transform("max") == competing) & (group.transform("count") >= LEAST_ENTRANTS)
        best = set(competing.index[is_best])
        texts = []
        for model in models:
            text = _mean_text(scale * rows["mean"][model], scale * rows["sd"][model], decimals=decimals)
            is_marked = model in best and is_of_convention
            texts.append(f"**{text}**" if is_marked else text)
        columns[_heading(quantity, comparison)] = texts
    for heading, name in SPREAD.items():
        values = [comparison.spread[model].get(name, math.nan) for model in models]
        if not all(map(math.isnan, values)):
            columns[heading] = [_mean_text(value, math.nan, decimals=3) for value in values]
    cells = _by_model(list(zip(*columns.values(), strict=True)), models, list(columns))
    return _with_raters(cells, comparison)


def _with_raters(table: pd.DataFrame, comparison: Comparison) -> pd.DataFrame:
    """With the raters of each dataset as its last row, if there are several and the evaluations have their numbers."""
    names = {
        _heading(column, comparison) if column in BETTER else column: (column, name)
        for column, name in OF_RATERS.items()
    }
    parts = []
    for dataset, part in table.groupby(level="dataset", sort=False):
        parts.append(part)
        found = next((numbers for model, numbers in comparison.spread.items() if model[0] == dataset and numbers), {})
        row = []
        for heading in table.columns:
            column, name = names.get(heading, ("", ""))
            scale, decimals = _form(column, comparison)
            row.append(_mean_text(scale * found.get(name, math.nan), math.nan, decimals=decimals))
        if any(text != ABSENT for text in row):
            index = pd.MultiIndex.from_tuples([(dataset, RATERS_ROW)], names=table.index.names)
            parts.append(pd.DataFrame([row], index=index, columns=table.columns))
    return pd.concat(parts)


def to_markdown(table: pd.DataFrame, *, caption: str) -> str:
    """A table of texts in Markdown, under its caption."""
    lines = [_head(table, ": "), *_body(table)]
    rows = ["| " + " | ".join(text.replace("|", r"\|") for text in line) + " |" for line in lines]
    rows.insert(1, "|" + " --- |" * table.index.nlevels + " ---: |" * len(table.columns))
    return f"{caption}\n\n" + "\n".join(rows) + "\n"


def to_latex(table: pd.DataFrame, *, caption: str, label: str) -> str:
    """A table of texts in LaTeX, for the package booktabs."""
    text = table.to_latex(
        escape=True,
        index_names=False,
        multirow=False,
        caption=caption.translate(LATEX_ESCAPES),
        label=label,
        column_format="l" * table.index.nlevels + "r" * len(table.columns),
        multicolumn_format="c",
        position="htbp",
    )
    text = BOLD.sub(r"\\textbf{\1}", text)
    symbols: dict[str, str | int | None] = {"±": r"$\pm$", "Δ": r"$\Delta$", "–": "--", STAND_IN_MARK: r"$\dagger$"}
    symbols |= {"↑": r"$\uparrow$", "↓": r"$\downarrow$"}
    return text.translate(str.maketrans(symbols))


def to_terminal(table: pd.DataFrame, *, title: str, caption: str) -> list[Table]:
    """A table of texts for the terminal: one for each dataset where rows name it, and the caption under the last."""
    if table.index.nlevels == 1:
        parts = {title: table}
    else:
        datasets = table.index.unique(level=0)
        parts = {f"{title}: {dataset}": table.xs(dataset, level=0) for dataset in datasets}
    shown = []
    for heading, part in parts.items():
        shown.append(Table(title=escape(heading), box=box.SIMPLE_HEAD, padding=0))
        for position, name in enumerate(_head(part, "\n")):
            shown[-1].add_column(escape(name), justify="right" if position else "left")
        for line in _body(part):
            shown[-1].add_row(*(BOLD.sub(r"[bold]\1[/bold]", escape(cell)) for cell in line))
    shown[-1].caption = escape(caption)
    return shown


def _form(quantity: str, comparison: Comparison) -> tuple[int, int]:
    """What a quantity is multiplied with in print, and its decimals."""
    if quantity == "Dice" and comparison.convention.dice_in_percent:
        return 100, 2
    return 1, 4 if quantity in FOUR_DECIMALS else 3


def _heading(name: str, comparison: Comparison) -> str:
    """Name of a quantity, or of it in a split, with its unit and the direction in which it is better."""
    quantity = name if name in BETTER else name.rpartition(" ")[0]
    unit = " (%)" if quantity == "Dice" and comparison.convention.dice_in_percent else ""
    return name + unit + ARROWS[BETTER[quantity]]


def _head(table: pd.DataFrame, separator: str) -> list[str]:
    """The line of headings; a heading of two levels becomes one text."""
    names = [name if isinstance(name, str) else separator.join(name) for name in table.columns]
    return [*map(str, table.index.names), *names]


def _body(table: pd.DataFrame) -> list[list[str]]:
    return [
        [*([index] if isinstance(index, str) else index), *row]
        for index, row in zip(table.index, table.to_numpy().tolist(), strict=True)
    ]


def _models(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    """(dataset, aleatoric, epistemic) of a table, by dataset and then in the paper's order."""
    present = set(table[["dataset", "aleatoric", "epistemic"]].itertuples(index=False, name=None))
    return [
        (dataset, aleatoric, epistemic)
        for dataset in sorted(table["dataset"].unique())
        for aleatoric in _ordered(table["aleatoric"], ALEATORIC)
        for epistemic in _ordered(table["epistemic"], EPISTEMIC)
        if (dataset, aleatoric, epistemic) in present
    ]


def _by_model(cells: list, models: list[tuple[str, str, str]], columns: list[str]) -> pd.DataFrame:
    names = [(dataset, model_title(aleatoric, epistemic)) for dataset, aleatoric, epistemic in models]
    index = pd.MultiIndex.from_tuples(names, names=["dataset", "model"])
    return pd.DataFrame(cells, index=index, columns=columns)


def _mark(comparison: Comparison, dataset: str, aleatoric: str, epistemic: str) -> str:
    """What stands behind a number of a model that is made of EU."""
    return f" {STAND_IN_MARK}" if comparison.stand_ins[dataset, aleatoric, epistemic] else ""


def _mean_text(mean: float, spread: float, *, decimals: int, mark: str = "") -> str:
    if math.isnan(mean):
        return ABSENT
    interval = "" if math.isnan(spread) else f" ± {spread:.{decimals}f}"
    return f"{mean:.{decimals}f}{interval}{mark}"


def _ordered(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Distinct names, the known ones first and in their order."""
    known = list(known)
    return sorted(set(names), key=lambda name: (known.index(name) if name in known else len(known), name))
