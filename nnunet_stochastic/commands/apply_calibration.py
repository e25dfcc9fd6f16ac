"""``nnunet_stochastic_apply_calibration``: confidence maps, calibrated probabilities, or decisions of predictions."""

from __future__ import annotations

import argparse
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from nnunet_stochastic.commands._errors import report_errors, say_total_time
from nnunet_stochastic.commands._flags import Number, add_disable_progress_bar, add_processes, parse_arguments
from nnunet_stochastic.evaluation import (
    MEASURES,
    STAND_IN_FOOTNOTE,
    Calibration,
    Workers,
    check_cases,
    check_same_model,
    describe_model,
    find_cases,
    map_in_threads,
)
from nnunet_stochastic.evaluation.applied_decisions import unassessable
from nnunet_stochastic.evaluation.confidence import ConfidenceFolder, needed_files
from nnunet_stochastic.evaluation.decision_folder import (
    MaskFolder,
    NewCase,
    examine,
    without_unused,
    write_tables,
)
from nnunet_stochastic.evaluation.decision_statistics import read_structures
from nnunet_stochastic.evaluation.predicted_dataset import PredictedDataset, read_dataset
from nnunet_stochastic.evaluation.predicted_settings import check_predicted_alike
from nnunet_stochastic.io.names import counted, few
from nnunet_stochastic.io.output_locks import locked_output_folder
from nnunet_stochastic.io.staging import staged_file

__all__ = ["main"]

# Files beside the predictions that other commands read.
_COPIED = ("dataset.json", "plans.json", "predict_from_raw_data_args.json", "uncertainty.json")

_ALPHA = 0.1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnunet_stochastic_apply_calibration",
        description="Turn uncertainty into confidence: the probability that the segmentation is right at a voxel, from "
        "each uncertainty map (platt), or from the probabilities (temperature). Or say what it means (decisions): "
        "which cases to open first and why, how large a structure is at the least and at the most, how good its "
        "segmentation probably is. None of it needs a reference.",
        epilog="platt writes confidence_aleatoric/, confidence_epistemic/ and confidence_total/, maps in the geometry "
        "of the image. temperature writes confidence/, the calibrated probabilities case.npz and a copy of the "
        "segmentation, which does not change, so that nnunet_stochastic_evaluate and nnUNetv2_ensemble can work on -o. "
        "decisions writes review.csv, a row per case, the one to open first on top; structures.csv, that of the "
        "prediction with intervals of the volume, predicted Dice and its lower bound; of predictions with --lesions "
        "lesions.csv, theirs with the probability that each is there; and, of predictions with "
        "probabilities, masks: outer/, outside of which at most --alpha of the reference is on average, and inner/, of "
        "which at most --alpha is outside of the reference. A data set with several structures has a folder for each "
        "inside these, as masks of several may overlap.",
    )
    parser.add_argument(
        "-i",
        type=Path,
        metavar="FOLDER",
        required=True,
        help="folder of predictions (output of nnunet_stochastic_predict)",
    )
    parser.add_argument(
        "-calibration",
        type=Path,
        metavar="FILE",
        required=True,
        help="calibration.json that nnunet_stochastic_determine_calibration has written",
    )
    parser.add_argument(
        "-o",
        type=Path,
        metavar="FOLDER",
        help="output folder; temperature and decisions need another one than -i (default: -i)",
    )
    parser.add_argument(
        "--method",
        choices=["platt", "temperature", "decisions"],
        default="platt",
        help="confidence of the maps, or of the probabilities, or decisions (default: %(default)s)",
    )
    parser.add_argument(
        "--alpha",
        type=Number(float, 0, 1),
        metavar="SHARE",
        help=f"share that may be outside of the masks of decisions (default: {_ALPHA}); 0.05, 0.1 or 0.2",
    )
    parser.add_argument("-djfile", type=Path, metavar="FILE", help="dataset.json (default: the one inside -i)")
    add_processes(parser, "number of cases at a time, in threads")
    parser.add_argument(
        "--continue_calibration", action="store_true", help="keep the cases that an earlier command has finished"
    )
    add_disable_progress_bar(parser)
    return parser


@report_errors
@say_total_time
def main(argv: Sequence[str] | None = None) -> int:
    """Write confidences; the exit status is 0 when all were written."""
    arguments = parse_arguments(_parser(), argv)
    output, method = arguments.o or arguments.i, arguments.method
    if method == "temperature" and output.resolve() == arguments.i.resolve():
        raise ValueError("--method temperature would overwrite the probabilities in -i; choose another folder with -o")
    if method == "decisions" and output.resolve() == arguments.i.resolve():
        raise ValueError(
            "--method decisions would overwrite the prediction's structures.csv in -i; choose another folder with -o"
        )
    if method == "decisions" and (output / "uncertainty.json").is_file():
        raise ValueError(
            f"{output} holds predictions, whose structures.csv decisions would overwrite; choose another -o"
        )
    if arguments.alpha is not None and method != "decisions":
        raise ValueError(f"--alpha is the share of the masks of --method decisions, and the method is {method}")
    calibration = Calibration.load(arguments.calibration)
    if calibration.model is not None:
        check_same_model(describe_model(arguments.i), arguments.i, calibration.model, arguments.calibration)
    dataset = read_dataset(arguments.i, arguments.djfile, option="-i")
    with locked_output_folder(output):
        if method == "decisions":
            _decide(arguments, output, calibration, dataset)
        else:
            _write_confidences(arguments, output, calibration, dataset)
    return 0


def _write_confidences(
    arguments: argparse.Namespace, output: Path, calibration: Calibration, dataset: PredictedDataset
) -> None:
    method = arguments.method
    cases, problems = find_cases(
        arguments.i, None, file_ending=dataset.file_ending, probabilities=method == "temperature"
    )
    cases = [needed_files(case, method) for case in cases]
    from nnunet_stochastic.inference.images import map_ending  # here: torch comes with it, which takes seconds

    confidences = ConfidenceFolder(
        output,
        method,
        map_ending(type(dataset.reader), dataset.file_ending),
        dataset.labels,
        dataset.reader,
        calibration,
        tuple(
            measure
            for measure in MEASURES
            if method == "platt"
            and calibration.platt(measure) is not None
            and any(measure in case.maps for case in cases)
        ),
    )
    if method == "platt" and not confidences.measures and not problems:
        raise ValueError(
            f"{arguments.i} has no map that {arguments.calibration} has Platt parameters for; predict with "
            "nnunet_stochastic_predict, and see left_out in that file"
        )
    if method == "temperature" and calibration.temperature is None:
        raise ValueError(f"{arguments.calibration} has no temperature: {calibration.left_out.get('temperature')}")
    record = {"method": method, "calibration": calibration.used}
    pending = confidences.written.pending(cases, record) if arguments.continue_calibration else cases
    progress = not arguments.disable_progress_bar
    with Workers(arguments.np, show_progress=progress) as workers:
        check_cases(pending, dataset.labels, dataset.reader, problems=problems, workers=workers)

    confidences.written.begin(pending, record)
    if method == "temperature":
        for name in _COPIED:
            if (arguments.i / name).is_file():
                with staged_file(output / name) as staged:
                    shutil.copyfile(arguments.i / name, staged)
    map_in_threads(
        confidences.write, pending, num_threads=arguments.np, description="confidence", show_progress=progress
    )
    for what, reason in calibration.left_out.items():
        if what in (MEASURES if method == "platt" else ("temperature",)):
            print(f"left out: {what}: {reason}")
    print(f"{len(pending)} of {counted(len(cases), 'case')} written: {output}")


def _decide(arguments: argparse.Namespace, output: Path, calibration: Calibration, dataset: PredictedDataset) -> None:
    decisions, alpha = calibration.decisions, _ALPHA if arguments.alpha is None else arguments.alpha
    if decisions is None:
        reason = calibration.left_out.get("decisions", "it is of an earlier version, make it again")
        raise ValueError(f"{arguments.calibration} has no decisions: {reason}")
    if not any(math.isclose(alpha, known) for known in decisions.alphas):
        raise ValueError(f"--alpha must be one of {', '.join(f'{a:g}' for a in decisions.alphas)}, got {alpha:g}")
    decisions.check_labels(dataset.labels.by_name)
    check_predicted_alike(arguments.i, calibration.settings, arguments.calibration)
    cases, problems = find_cases(arguments.i, None, file_ending=dataset.file_ending, probabilities=False)
    predicted, without_structures = read_structures(arguments.i, [case.name for case in cases], dataset.labels)
    if without_structures is not None:
        raise ValueError(without_structures)
    problems += unassessable({name: found.rows for name, found in predicted.items()}, decisions)
    left_out = {}
    thresholds = {name: found.masks.at(alpha) for name, found in decisions.structures.items() if found.masks}
    without = [case.name for case in cases if not case.probabilities]
    if thresholds and len(without) == len(cases):
        thresholds = {}
        left_out["inner and outer masks"] = "there are no probabilities; predict with --save_probabilities"
    elif thresholds and without:
        problems.append(
            f"{few(without)}: no probabilities, other cases have them; predict again with --save_probabilities"
        )
    masks = MaskFolder(output, dataset.labels, dataset.reader, thresholds)
    record = {
        "method": arguments.method,
        "predictions": str(arguments.i.resolve()),
        "alpha": alpha,
        "masks": list(thresholds),
        "decisions": calibration.content["decisions"],
    }
    pending = masks.written.pending(cases, record) if arguments.continue_calibration else cases
    pending = pending if thresholds else []
    progress = not arguments.disable_progress_bar
    read = {case.name for case in pending}
    new = [NewCase(without_unused(case, probabilities=case.name in read), predicted[case.name]) for case in cases]
    with Workers(arguments.np, show_progress=progress) as workers:
        scores = examine(new, dataset.labels, dataset.reader, problems=problems, workers=workers)

    masks.written.begin(pending, record, outdated=[path for case in cases for path in masks.outdated(case)])
    map_in_threads(masks.write, pending, num_threads=arguments.np, description="masks", show_progress=progress)
    tables = write_tables(
        output, {case.files.name: (case.predicted, scores[case.files.name]) for case in new}, decisions
    )
    if gone := sorted(decisions.image_scores.keys() - scores[cases[0].name].keys()):
        left_out[f"percentiles of {', '.join(gone)}"] = "these predictions lack the maps"
    of_lesions = {name for name, found in decisions.structures.items() if found.existence is not None}
    if lacking := sorted(of_lesions - {name for found in predicted.values() for name in found.lesions}):
        left_out[f"lesions of {', '.join(lacking)}"] = "predict with --lesions as the validation images"
    if not cases[0].maps.get("EU"):
        left_out["label_next"] = "there are no epistemic maps"
    elif describe_model(arguments.i)["epistemic_is_stand_in"]:
        print(f"EU, label_next: {STAND_IN_FOOTNOTE}")
    for what, reason in left_out.items():
        print(f"left out: {what}: {reason}")
    if calibration.made_from(arguments.i):
        print(f"note: the decisions were fitted to {arguments.i} itself, and hold for other images")
    validation = counted(decisions.num_cases, "validation case")
    print(f"decisions: of {validation} of {counted(decisions.num_patients, 'patient')}")
    for remark in decisions.remarks():
        print(f"decisions: {remark}")
    written = f"masks of {len(pending)} of {counted(len(cases), 'case')}, " if thresholds else ""
    print(f"{written}{', '.join(tables)}: {output}")
