"""``nnunet_stochastic_evaluate``: scores, uncertainty tasks, tables and pictures of a folder of predictions."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from nnunet_stochastic.commands._errors import report_errors, say_total_time
from nnunet_stochastic.commands._flags import (
    Number,
    add_disable_progress_bar,
    add_groups,
    add_old_name,
    add_processes,
    parse_arguments,
)
from nnunet_stochastic.conventions import DEFAULT_CONVENTION, PRESETS
from nnunet_stochastic.evaluation import (
    CALIBRATION_FILE,
    ID,
    SURFACE_TOLERANCE_MM,
    Calibration,
    CaseSettings,
    SetFolders,
    Workers,
    describe_folders,
    evaluate_sets,
    find_case_sets,
    find_convention,
    shift_folders,
)
from nnunet_stochastic.evaluation.applied_decisions import read_applied_decisions
from nnunet_stochastic.evaluation.borders import images_without_border
from nnunet_stochastic.evaluation.folder import describe_one_model
from nnunet_stochastic.evaluation.predicted_dataset import read_dataset
from nnunet_stochastic.evaluation.tasks import DECISIONS, TASKS
from nnunet_stochastic.io.names import few
from nnunet_stochastic.io.output_locks import locked_output_folder
from nnunet_stochastic.patients import read_patients
from nnunet_stochastic.report import decision_tables, print_table, structure_table, summary_table, task_table
from nnunet_stochastic.report.evaluation_files import write_evaluation
from nnunet_stochastic.report.pictures import first_images, write_pictures

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnunet_stochastic_evaluate",
        description="Score predictions: Dice, distances of the surfaces in mm (HD95, ASSD, normalised surface Dice), "
        "lesion-wise Dice, negative log-likelihood (NLL), Brier score, expected and maximum "
        "calibration error (ECE, MCE) per class and case; whether the uncertainty finds shifted images, "
        "shows ambiguity, is calibrated and finds bad segmentations; a reliability diagram, and a picture of each "
        "case. The predictions must have been made with --save_probabilities.",
        epilog="Writes summary.json (means, tasks, and the conventions used), cases.csv (a row per case, annotation "
        "and class), images.csv (a row per case), scores.csv (a row per case and uncertainty map), curves.json, "
        "with -decisions decisions.csv (a row per case and structure), "
        "reliability.png, pictures/ and records/ (what --continue_evaluation goes on from). Every metric is computed "
        "on all voxels of the original image. A task that lacks its input is left out, and the summary says why.",
    )
    parser.add_argument(
        "-pred",
        type=Path,
        metavar="FOLDER",
        required=True,
        help="folder of predictions (output of nnunet_stochastic_predict)",
    )
    parser.add_argument(
        "-gt", type=Path, metavar="FOLDER", required=True, help="folder of reference segmentations, such as labelsTs"
    )
    parser.add_argument(
        "-gt_raters",
        type=Path,
        metavar="FOLDER",
        help="folder of each rater's segmentations, case_rater0.nii.gz, case_rater1.nii.gz and so on. "
        "Predictions are then also scored against each rater, and these scores averaged",
    )
    parser.add_argument(
        "-ood",
        nargs="+",
        default=[],
        metavar="NAME=FOLDER",
        help="folders of predictions of images out of distribution, one per kind of shift, such as blur=out/blur",
    )
    parser.add_argument(
        "-ood_gt",
        nargs="+",
        default=[],
        metavar="NAME=FOLDER",
        help="folders of their reference segmentations. A corrupted copy of an image has those of the image",
    )
    parser.add_argument(
        "-ood_gt_raters", nargs="+", default=[], metavar="NAME=FOLDER", help="folders of their raters' segmentations"
    )
    parser.add_argument(
        "-val",
        type=Path,
        metavar="FOLDER",
        help="folder of predictions of validation images in which nnunet_stochastic_determine_calibration has "
        f"written {CALIBRATION_FILE}; needed for calibration and for the threshold score",
    )
    parser.add_argument(
        "-decisions",
        type=Path,
        metavar="FOLDER",
        help="folder that nnunet_stochastic_apply_calibration --method decisions wrote about the predictions in -pred: "
        "judge by the references whether its intervals, masks, predicted Dice and lesions hold",
    )
    add_groups(parser, "intervals are then over patients, not over cases that would count as independent")
    parser.add_argument(
        "--convention",
        choices=list(PRESETS),
        default=DEFAULT_CONVENTION,
        help="whose choices to follow where papers differ; summary.json names them (default: %(default)s)",
    )
    parser.add_argument(
        "--nsd_tolerance_mm",
        type=Number(float, 0, 1e6),
        default=SURFACE_TOLERANCE_MM,
        metavar="MM",
        help="distance within which surfaces agree, for the normalised surface Dice (default: %(default)s)",
    )
    parser.add_argument(
        "-o", type=Path, metavar="FOLDER", help="output folder (default: the folder `evaluation` inside -pred)"
    )
    parser.add_argument("-djfile", type=Path, metavar="FILE", help="dataset.json (default: the one inside -pred)")
    parser.add_argument(
        "-i",
        type=Path,
        metavar="FOLDER",
        help="folder of the input images, for the pictures (default: where uncertainty.json found them)",
    )
    add_processes(parser, "number of cases at a time, each in a process that needs memory for its probabilities")
    parser.add_argument(
        "--continue_evaluation",
        action="store_true",
        help="keep what an earlier evaluation into the same folder has computed of the same files",
    )
    parser.add_argument(
        "--allow_missing_predictions",
        action="store_true",
        help="do not stop if -pred lacks some of the cases of -gt; evaluate the others",
    )
    add_old_name(parser, "--chill", "--allow_missing_predictions", action="store_true")
    parser.add_argument(
        "--shared_scale",
        action="store_true",
        help="draw the aleatoric, epistemic and total map of a picture on one colour scale, which shows how they "
        "compare but hides a small one (default: each from 0 to its own maximum)",
    )
    parser.add_argument("--no_pictures", action="store_true", help="write no picture per case")
    add_disable_progress_bar(parser)
    return parser


@report_errors
@say_total_time
def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate prediction folders; the exit status is 0 when everything was written."""
    arguments = parse_arguments(_parser(), argv)
    folders = {
        ID: SetFolders(arguments.pred, arguments.gt, arguments.gt_raters),
        **shift_folders(arguments.ood, arguments.ood_gt, arguments.ood_gt_raters),
    }
    fitted = None if arguments.val is None else arguments.val / CALIBRATION_FILE
    calibration = None if fitted is None else Calibration.load(fitted)
    dataset = read_dataset(arguments.pred, arguments.djfile, option="-pred")
    model = describe_one_model(folders, calibration, fitted)
    sets, problems = find_case_sets(
        folders,
        file_ending=dataset.file_ending,
        num_raters=dataset.num_raters,
        allow_missing_predictions=arguments.allow_missing_predictions,
    )
    patients = None
    if arguments.groups is not None:
        patients = read_patients(arguments.groups, [case.name for case_set in sets for case in case_set.cases])
    applied = None
    if arguments.decisions is not None:
        applied, found = read_applied_decisions(arguments.decisions, sets, folders, dataset.labels)
        problems = [*problems, *found]
    output = arguments.o or arguments.pred / "evaluation"
    with locked_output_folder(output):
        images = first_images(sets[0].cases, arguments.pred, arguments.i, dataset.file_ending)
        progress = not arguments.disable_progress_bar
        convention = find_convention(arguments.convention)
        settings = CaseSettings(dataset.labels, dataset.reader, convention, calibration, arguments.nsd_tolerance_mm)
        with Workers(arguments.np, show_progress=progress) as workers:
            evaluation = evaluate_sets(
                sets,
                settings,
                output / "records",
                problems=problems,
                patients=patients,
                applied=applied,
                resume=arguments.continue_evaluation,
                workers=workers,
            )
        described = describe_folders(folders, validation=arguments.val, groups=arguments.groups)
        summary = {"folders": described, "model": model, **evaluation.summary}
        write_evaluation(evaluation, summary, dataset.labels, output)
        if not arguments.no_pictures:
            write_pictures(
                sets[0].cases,
                dataset.labels,
                dataset.reader,
                output / "pictures",
                images=images,
                file_ending=dataset.file_ending,
                shared_scale=arguments.shared_scale,
                epistemic_is_stand_in=bool(model["epistemic_is_stand_in"]),
                num_threads=arguments.np,
                show_progress=progress,
            )

    console = Console(emoji=False)
    for annotation in summary["results"]:
        print_table(console, summary_table(summary, annotation=annotation))
        print_table(console, structure_table(summary, annotation=annotation))
    if summary["tasks"]:
        print_table(console, task_table(summary))
    for table in decision_tables(summary):
        print_table(console, table)
    for warning in (
        *_warn_of_samples(summary["degenerate_samples"]),
        *_warn_of_borders(summary),
        *_warn_of_validation_cases(summary["tasks"].get(DECISIONS.name)),
    ):
        print(f"warning: {warning}", file=sys.stderr)
    for what, reason in summary["left_out"].items():
        print(f"left out: {what}: {reason}")
    pictures = "" if arguments.no_pictures else ", pictures"
    decided = "" if applied is None else ", decisions.csv"
    print(f"summary.json, cases.csv, images.csv, scores.csv{decided}, reliability.png{pictures}: {output}")
    return 0


def _warn_of_samples(degenerate_samples: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """A line per set with samples that say nothing of the image."""
    words = {"empty": "empty", "full": "filling the image", "empty or full": "empty or filling the image"}
    of_samples = ", ".join(task.name for task in TASKS if "samples" in task.needs)
    for name, cases in degenerate_samples.items():
        found = "; ".join(
            f"{words[what]}: {few([case for case, its in cases.items() if its == what])}"
            for what in words
            if what in cases.values()
        )
        yield (
            f"{name}: all samples of these cases have come apart from the segmentation ({found}); {of_samples} and the "
            "maps of such a model mean nothing, train it longer or look at its log"
        )


def _warn_of_borders(summary: Mapping[str, Any]) -> Iterator[str]:
    """A line if images have no predicted border, by whose length their scores are divided."""
    entries = {task.name: summary["tasks"].get(task.name, {}) for task in TASKS}
    by_task = {name: found for name, entry in entries.items() if (found := images_without_border(entry))}
    if by_task:
        sizes = summary["bootstrap"]["sets"]
        numbers = {name: number for found in by_task.values() for name, number in found.items()}
        listed = ", ".join(f"{number} of {sizes[name]['cases']} of {name}" for name, number in numbers.items())
        yield (
            f"images without a predicted border: {listed}; their scores are sums over the image, divided by 1 and not "
            f"by a border's length, and can decide {' and '.join(by_task)} by themselves: see the rows 'with a "
            "border', which leave them out (num_without_border in summary.json)"
        )


def _warn_of_validation_cases(entry: Mapping[str, Any] | None) -> Iterator[str]:
    """A line if decisions are judged by cases that they were fitted to."""
    judged = None if entry is None else entry[ID]
    if judged is not None and (number := judged["num_shared_cases"]):
        yield (
            f"{number} of {judged['num_cases']} cases are validation cases that the decisions were fitted to, on which "
            "they hold by construction; judge them by other patients"
        )
