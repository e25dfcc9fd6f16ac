"""``nnunet_stochastic_report``: evaluations of one or many models, or new cases to review, as one HTML page."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from nnunet_stochastic.commands._errors import report_errors, say_total_time
from nnunet_stochastic.commands._flags import (
    Number,
    add_disable_progress_bar,
    add_processes,
    parse_arguments,
)
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun
from nnunet_stochastic.evaluation.evaluated_runs import read_overrides
from nnunet_stochastic.evaluation.predicted_dataset import read_dataset
from nnunet_stochastic.io.folders import files_by_name
from nnunet_stochastic.io.names import counted
from nnunet_stochastic.io.output_locks import locked_output_file
from nnunet_stochastic.io.text import write_text
from nnunet_stochastic.report.page import (
    CaseVolumes,
    PageCase,
    PageContent,
    PredictionFolder,
    ReviewContent,
    collect_thumbnails,
    collect_volumes,
    missing,
    open_reviewed,
    order_in_words,
    page_cases,
    page_size,
    read_results,
    read_review,
    render_page,
    render_review,
    review_cases,
)

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnunet_stochastic_report",
        description="Make one HTML page of the tables and figures of evaluations, and their cases to look at; or of "
        "new cases without references: which to open first and why, how large their structures are, where their "
        "lesions are. The page needs no network and no other file. Open it in any browser.",
        epilog="Images, segmentations and maps are read where the evaluation or prediction found them. A case whose "
        "files are gone keeps its row, and the page says what is missing.",
    )
    parser.add_argument(
        "results",
        type=Path,
        nargs="*",
        metavar="RESULT",
        help="output folder of nnunet_stochastic_evaluate; several to compare models (default: the folders in --runs). "
        "Or one folder of new cases: output of nnunet_stochastic_apply_calibration --method decisions, or of "
        "nnunet_stochastic_predict",
    )
    parser.add_argument(
        "--runs",
        type=Path,
        metavar="CSV",
        help="table with the column folder and any of dataset, seed, aleatoric, epistemic, as "
        "nnunet_stochastic_compare takes it: what to call a folder's model",
    )
    parser.add_argument("-o", type=Path, help="output file, an HTML page (default: report.html in the first RESULT)")
    parser.add_argument(
        "--title", help="heading of the page (default: Uncertainty report, and of new cases Cases to review)"
    )
    parser.add_argument(
        "--images",
        type=Path,
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="image folders of new cases, for images that are no longer where the prediction read them",
    )
    parser.add_argument(
        "--viewer_cases",
        type=Number(int, 0, 1_000_000),
        default=20,
        help="number of cases that can be looked at slice by slice: the first of the list, which of an evaluation are "
        "the most uncertain, of each model in turn "
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
        raise ValueError(
            "nothing to report: name evaluation folders, a table of them with --runs, or a folder of new cases"
        )
    output = arguments.o or folders[0] / "report.html"
    if output.is_dir():
        raise ValueError(f"-o must be a file, but {output} is a folder; name a file in it, such as report.html")
    new = [folder for folder in folders if _is_of_new_cases(folder)]
    if new and (len(folders) > 1 or overrides):
        raise ValueError(
            f"{new[0]} is no evaluation but a folder of new cases, which has a page of its own: name it alone"
        )
    if arguments.images and not new:
        raise ValueError("--images is for new cases; those of an evaluation are read where it found them")
    if gone := [str(image_folder) for image_folder in arguments.images if not image_folder.is_dir()]:
        raise FileNotFoundError(f"the folder {gone[0]} (--images) does not exist; name that of the images")
    with locked_output_file(output):
        if new:
            _review(arguments, new[0], output)
        else:
            _evaluations(arguments, read_results(folders, overrides), output)
    return 0


def _is_of_new_cases(folder: Path) -> bool:
    """Whether it is of decisions or predictions; an evaluation may lie in the same folder, and comes first."""
    is_evaluation = (folder / "summary.json").is_file()
    return not is_evaluation and any((folder / name).is_file() for name in ("decisions.json", "dataset.json"))


def _evaluations(arguments: argparse.Namespace, results: Sequence[EvaluatedRun], output: Path) -> None:
    cases = page_cases(results, _open_folder)
    collected = _collect(arguments, cases, output)
    title = arguments.title or "Uncertainty report"
    write_text(output, render_page(PageContent(title, results, cases, *collected)))
    _say(output, counted(len(results), "model"), cases, *collected[1:])


def _review(arguments: argparse.Namespace, folder: Path, output: Path) -> None:
    reviewed = open_reviewed(folder)
    open_folder = partial(_open_folder, images=arguments.images)
    # Without decisions there is nothing to list but the segmentations.
    segmented = () if reviewed.decisions is not None else tuple(_segmented(folder))
    review = read_review(reviewed, segmented)
    cases = review_cases(review, open_folder)
    collected = _collect(arguments, cases, output)
    title = arguments.title or "Cases to review"
    write_text(output, render_review(ReviewContent(title, review, cases, *collected)))
    for what, how in missing(review, cases):
        print(f"missing: {what}: {how}")
    print(f"order of the cases: {order_in_words(review)}")
    _say(output, "new cases", cases, *collected[1:])


def _collect(
    arguments: argparse.Namespace, cases: Sequence[PageCase], output: Path
) -> tuple[list[str | None], list[str | None], dict[int, CaseVolumes]]:
    """Thumbnails, notes and volumes of the cases."""
    threads = {"num_threads": arguments.np, "show_progress": not arguments.disable_progress_bar}
    thumbnails, notes = collect_thumbnails(cases, max_thumbnails=arguments.max_thumbnails, **threads)
    room = int(arguments.max_megabytes * 1e6) - page_size(thumbnails)
    volumes, not_shown = collect_volumes(cases, viewer_cases=arguments.viewer_cases, max_bytes=max(room, 0), **threads)
    for line in not_shown:
        print(f"not in the viewer: {line}")
    return thumbnails, notes, volumes


def _say(
    output: Path, what: str, cases: Sequence[PageCase], notes: Sequence[str | None], volumes: Mapping[int, CaseVolumes]
) -> None:
    if lacking := sum(note is not None for note in notes):
        print(f"{lacking} of {len(cases)} cases lack an image, a map or a thumbnail; the page says which and why")
    size = output.stat().st_size / 1e6
    print(f"{output}: {what}, {counted(len(cases), 'case')}, {len(volumes)} in the viewer, {size:.1f} MB")


def _segmented(folder: Path) -> list[str]:
    """Names of the cases of a folder of predictions."""
    return list(files_by_name(folder, read_dataset(folder, None, option="RESULT").file_ending))


def _open_folder(folder: Path, images: Sequence[Path] = ()) -> PredictionFolder:
    dataset = read_dataset(folder, None, option="of the predictions")
    return PredictionFolder.of(
        folder, file_ending=dataset.file_ending, labels=dataset.labels, reader=dataset.reader, image_folders=images
    )
