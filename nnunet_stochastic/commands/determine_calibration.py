"""``nnunet_stochastic_determine_calibration``: calibration.json from predictions of validation images."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path

from nnunet_stochastic.commands._errors import report_errors, say_total_time
from nnunet_stochastic.commands._flags import (
    add_disable_progress_bar,
    add_groups,
    add_processes,
    add_seed,
    parse_arguments,
)
from nnunet_stochastic.evaluation import (
    CALIBRATION_FILE,
    STAND_IN_FOOTNOTE,
    Calibration,
    Workers,
    case_statistics,
    check_cases,
    describe_model,
    fit_calibration,
    stand_in_mark,
)
from nnunet_stochastic.evaluation.predicted_dataset import read_dataset
from nnunet_stochastic.evaluation.predicted_settings import deciding_settings
from nnunet_stochastic.evaluation.validation_cases import find_validation_cases
from nnunet_stochastic.io.names import counted, few
from nnunet_stochastic.io.output_locks import locked_output_folder
from nnunet_stochastic.io.text import write_json

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnunet_stochastic_determine_calibration",
        description="Determine on validation images how uncertainty becomes confidence (Platt scaling of each map), "
        "the temperature of the probabilities, the threshold above which a voxel counts as uncertain, and decisions "
        "about structures: intervals of their volumes, inner and outer masks, the predicted Dice, and how an image's "
        "scores compare with those of the validation images.",
        epilog=f"Writes {CALIBRATION_FILE} into -val. Use it with nnunet_stochastic_apply_calibration, and with "
        "nnunet_stochastic_evaluate -val. The images must be ones that the model was not trained on, and not those it "
        "is tested on. Memory hardly grows with their number. What could not be determined, and intervals that are "
        "infinite because there are too few patients, are listed at the end and in the file.",
    )
    parser.add_argument(
        "-val",
        type=Path,
        metavar="FOLDER",
        required=True,
        help="folder of predictions of validation images (output of nnunet_stochastic_predict); with "
        "--save_probabilities the temperature and the inner and outer masks are determined too, with --save_samples "
        "and --lesions how probable it is that a lesion exists",
    )
    parser.add_argument(
        "-gt",
        type=Path,
        metavar="FOLDER",
        required=True,
        help="folder of reference segmentations; it may hold more cases, as labelsTr",
    )
    parser.add_argument(
        "-gt_raters",
        type=Path,
        metavar="FOLDER",
        help="folder of each rater's segmentations, case_rater0.nii.gz and so on. All of them then count, in place of "
        "the reference",
    )
    parser.add_argument("-djfile", type=Path, metavar="FILE", help="dataset.json (default: the one inside -val)")
    add_groups(parser, "a patient is then the unit of decisions, of which one case counts, drawn with --seed")
    add_seed(parser)
    add_processes(parser, "number of cases at a time, each in a process")
    add_disable_progress_bar(parser)
    return parser


@report_errors
@say_total_time
def main(argv: Sequence[str] | None = None) -> int:
    """Write calibration.json; the exit status is 0 when it was written."""
    arguments = parse_arguments(_parser(), argv)
    dataset = read_dataset(arguments.val, arguments.djfile, option="-val")
    validation = find_validation_cases(
        arguments.val, arguments.gt, arguments.gt_raters, dataset, groups=arguments.groups
    )
    cases, problems = validation.files, list(validation.problems)
    if cases and not any(case.maps for case in cases) and not any(case.probabilities for case in cases):
        problems.append(
            f"{arguments.val} has neither uncertainty maps nor probabilities; predict with nnunet_stochastic_predict"
        )
    if cases and len({bool(case.probabilities) for case in cases}) > 1:
        without = few([case.name for case in cases if not case.probabilities])
        problems.append(f"{without}: no probabilities, other cases have them; predict again with --save_probabilities")
    with locked_output_folder(arguments.val, option="-val"):
        statistics = functools.partial(case_statistics, labels=dataset.labels, reader=dataset.reader)
        with Workers(arguments.np, show_progress=not arguments.disable_progress_bar) as workers:
            check_cases(cases, dataset.labels, dataset.reader, problems=problems, workers=workers)
            calibration = fit_calibration(
                workers.map(statistics, validation.cases, description="calibrating"),
                num_raters=len(cases[0].raters),
                labels=dataset.labels,
                seed=arguments.seed,
                without_structures=validation.without_structures,
            )
        folders = {
            "predictions": arguments.val,
            "reference": arguments.gt,
            "raters": arguments.gt_raters,
            "groups": arguments.groups,
        }
        calibration["folders"] = {
            name: None if folder is None else str(folder.resolve()) for name, folder in folders.items()
        }
        calibration["model"] = describe_model(arguments.val)
        calibration["settings"] = deciding_settings(arguments.val)
        mark = stand_in_mark(calibration["model"])
        write_json(arguments.val / CALIBRATION_FILE, calibration)

    for measure, fit in calibration["platt"].items():
        threshold = calibration["threshold"][measure]
        confidence = f"sigmoid(-({fit['a']:.4g} (-u) + {fit['b']:.4g}))"
        name = f"{measure}{mark if measure == 'EU' else ''}"
        print(f"{name}: confidence {confidence}, threshold {threshold:.4g} nats")
    if mark and "EU" in calibration["platt"]:
        print(STAND_IN_FOOTNOTE)
    if calibration["temperature"] is not None:
        print(f"temperature {calibration['temperature']:.4g}")
    for what, reason in calibration["left_out"].items():
        print(f"left out: {what}: {reason}")
    if (decisions := Calibration(calibration).decisions) is not None:
        unit = " (each case counts as one; --groups says otherwise)" if arguments.groups is None else ""
        rests_on = f"{counted(decisions.num_cases, 'case')} of {counted(decisions.num_patients, 'patient')}"
        print(f"decisions: {rests_on}{unit}")
        for remark in decisions.remarks():
            print(f"decisions: {remark}")
    print(f"{counted(len(cases), 'case')}: {arguments.val / CALIBRATION_FILE}")
    return 0
