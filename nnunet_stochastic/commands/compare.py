"""``nnunet_stochastic_compare``: ranks of many evaluated models by performance and entanglement."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from nnunet_stochastic.commands._errors import report_errors, say_total_time
from nnunet_stochastic.commands._flags import parse_arguments
from nnunet_stochastic.conventions import ACE, Ace
from nnunet_stochastic.evaluation.comparison import ALL, Comparison, compare
from nnunet_stochastic.evaluation.evaluated_runs import read_overrides, read_runs
from nnunet_stochastic.evaluation.model import model_title
from nnunet_stochastic.io.names import shown
from nnunet_stochastic.io.output_locks import locked_output_folder
from nnunet_stochastic.report.comparison_files import write_comparison
from nnunet_stochastic.report.comparison_table import to_terminal
from nnunet_stochastic.report.terminal import print_table

__all__ = ["main"]

SHOWN_MISSING = 20


@report_errors
@say_total_time
def main(argv: Sequence[str] | None = None) -> int:
    """Write and print the tables; return 0."""
    arguments = parse_arguments(_parser(), argv)
    if not arguments.results and arguments.runs is None:
        raise ValueError("nothing to compare: name the evaluation folders, or a table of them with --runs")
    if arguments.o.exists() and not arguments.o.is_dir():
        raise ValueError(f"{arguments.o} (-o) is a file; name a folder")
    with locked_output_folder(arguments.o):
        overrides = {} if arguments.runs is None else read_overrides(arguments.runs)
        runs = read_runs(arguments.results or list(overrides), overrides)
        comparison = compare(runs, ace=_by_dataset(arguments.ace))
        tables = write_comparison(comparison, arguments.o)
    console = Console(emoji=False)
    for table, title, caption in tables:
        for part in to_terminal(table, title=title, caption=caption):
            print_table(console, part)
    _print_missing(comparison)
    print(f"tables as .csv, .md and .tex, comparison.csv (all values and ranks), missing.csv: {arguments.o}")
    return 0


def _by_dataset(texts: Sequence[str]) -> dict[str, Ace]:
    """Datasets and their ACE of texts DATASET=ACE."""
    found: dict[str, Ace] = {}
    for text in texts:
        dataset, _, ace = text.rpartition("=")
        if not dataset or ace not in ACE:
            raise ValueError(f"--ace takes DATASET=ACE, ACE one of {', '.join(ACE)}; got {shown(text)}")
        if dataset in found:
            raise ValueError(f"--ace names {dataset} twice")
        found[dataset] = ace
    return found


def _print_missing(comparison: Comparison) -> None:
    missing = comparison.missing.to_dict("records")
    for row in missing[:SHOWN_MISSING]:
        where = [f"{name} {row[name]}" for name in ("dataset", "seed", "task", "split") if row[name]]
        model = "all models" if row["aleatoric"] == ALL else model_title(row["aleatoric"], row["epistemic"])
        print(f"missing: {', '.join([model, *where])}: {row['reason']}")
    if len(missing) > SHOWN_MISSING:
        print(f"missing: {len(missing) - SHOWN_MISSING} more, see missing.csv")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnunet_stochastic_compare",
        description="Rank models by how good their uncertainty is (performance) and how well aleatoric and "
        "epistemic uncertainty (AU, EU) are told apart (entanglement Δ), from evaluations of many models, seeds and "
        "datasets.",
        epilog="Models are ranked per task and split among the models of the same dataset and seed; ranks are "
        "averaged over images in and out of distribution (ID, OOD), then over the tasks, then over the seeds. The same "
        "folder may be the run of several seeds in --runs, such as an ensemble of all of them. A model that lacks a "
        "task of the others gets no overall rank; what is missing is printed and in missing.csv. Softmax without "
        "epistemic method has no AU and EU: N/A. A model whose segmentation has failed (Dice below half of the best, "
        "or samples that are empty or fill the image in half of the cases) is in no rank and never the best.",
    )
    parser.add_argument(
        "results",
        nargs="*",
        type=Path,
        metavar="RESULT",
        help="output folders of nnunet_stochastic_evaluate (default: the folders in --runs)",
    )
    parser.add_argument("-o", type=Path, required=True, metavar="OUT", help="output folder")
    parser.add_argument(
        "--runs",
        type=Path,
        metavar="CSV",
        help="table with the column folder (relative to the table, or absolute) and any of dataset, seed, aleatoric, "
        "epistemic: what a folder's run is where its summary.json does not say, or says otherwise, such as the seed "
        "of the training. An empty cell keeps what summary.json says",
    )
    parser.add_argument(
        "--ace",
        nargs="+",
        default=[],
        metavar="DATASET=ACE",
        help="which average calibration error ranks the calibration on a dataset: per_image, the mean over images, or "
        "dataset, that of all images together (default: that of the convention)",
    )
    return parser
