"""``nnunet_stochastic_report``: evaluations of one or many models as one HTML page."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nnunet_stochastic.commands._errors import report_errors, say_total_time
from nnunet_stochastic.commands._flags import (
    Number,
    add_disable_progress_bar,
    add_processes,
    parse_arguments,
)
from nnunet_stochastic.evaluation.evaluated_runs import read_overrides
from nnunet_stochastic.evaluation.predicted_dataset import read_dataset
from nnunet_stochastic.io.names import counted
from nnunet_stochastic.io.text import write_text
from nnunet_stochastic.report.page import (
    PageContent,
    PredictionFolder,
    collect_thumbnails,
    collect_volumes,
    page_cases,
    page_size,
    read_results,
    render_page,
)

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnunet_stochastic_report",
        description="Make one HTML page of the tables and figures of evaluations, and their cases to look at: it needs "
        "no network and no other file. Open it in any browser.",
        epilog="Images, segmentations and maps are read where the evaluation found them. A case whose files are gone "
        "keeps its row, and the page says what is missing.",
    )
    parser.add_argument(
        "results",
        type=Path,
        nargs="*",
        metavar="RESULT",
        help="output folder of nnunet_stochastic_evaluate; several to compare models (default: the folders in --runs)",
    )
    parser.add_argument(
        "--runs",
        type=Path,
        metavar="CSV",
        help="table with the column folder and any of dataset, seed, aleatoric, epistemic, as "
        "nnunet_stochastic_compare takes it: what to call a folder's model",
    )
    parser.add_argument("-o", type=Path, help="output file, an HTML page (default: report.html in the first RESULT)")
    parser.add_argument("--title", default="Uncertainty report", help="heading of the page (default: %(default)s)")
    parser.add_argument(
        "--viewer_cases",
        type=Number(int, 0, 1_000_000),
        default=20,
        help="number of cases that can be looked at slice by slice: the most uncertain, of each model in turn "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--max_megabytes",
        type=Number(float, 0, 1_000_000),
        default=200,
        help="limit of thumbnails and volumes together in MB; tables, figures and viewer add about 5 "
        "(default: %(default)g)",
    )
    parser.add_argument(
        "--max_thumbnails",
        type=Number(int, 0, 1_000_000),
        default=5000,
        help="number of cases with a thumbnail, 3 kB each (default: %(default)s)",
    )
    add_processes(parser, "number of cases at a time, in threads")
    add_disable_progress_bar(parser)
    return parser


@report_errors
@say_total_time
def main(argv: Sequence[str] | None = None) -> int:
    """Write the page; the exit status is 0 when it was written, whatever it lacks."""
    arguments = parse_arguments(_parser(), argv)
    overrides = {} if arguments.runs is None else read_overrides(arguments.runs)
    folders = arguments.results or list(overrides)
    if not folders:
        raise ValueError("nothing to report: name the evaluation folders, or a table of them with --runs")
    output = arguments.o or folders[0] / "report.html"
    if output.is_dir():
        raise ValueError(f"-o must be a file, but {output} is a folder; name a file in it, such as report.html")
    results = read_results(folders, overrides)
    output.parent.mkdir(parents=True, exist_ok=True)

    threads = {"num_threads": arguments.np, "show_progress": not arguments.disable_progress_bar}
    cases = page_cases(results, _open_folder)
    thumbnails, notes = collect_thumbnails(cases, max_thumbnails=arguments.max_thumbnails, **threads)
    room = int(arguments.max_megabytes * 1e6) - page_size(thumbnails)
    volumes, not_shown = collect_volumes(cases, viewer_cases=arguments.viewer_cases, max_bytes=max(room, 0), **threads)
    write_text(output, render_page(PageContent(arguments.title, results, cases, thumbnails, notes, volumes)))

    for line in not_shown:
        print(f"not in the viewer: {line}")
    if lacking := sum(note is not None for note in notes):
        print(f"{lacking} of {len(cases)} cases lack an image, a map or a thumbnail; the page says which and why")
    size = output.stat().st_size / 1e6
    number = f"{counted(len(results), 'model')}, {counted(len(cases), 'case')}"
    print(f"{output}: {number}, {len(volumes)} in the viewer, {size:.1f} MB")
    return 0


def _open_folder(folder: Path) -> PredictionFolder:
    dataset = read_dataset(folder, None, option="of the evaluation")
    return PredictionFolder.of(folder, file_ending=dataset.file_ending, labels=dataset.labels, reader=dataset.reader)
