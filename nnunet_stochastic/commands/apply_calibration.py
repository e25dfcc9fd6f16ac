"""``nnunet_stochastic_apply_calibration``: confidence maps, or calibrated probabilities, of a folder of predictions."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from nnunet_stochastic.commands._errors import report_errors
from nnunet_stochastic.commands._flags import add_disable_progress_bar, add_processes, parse_arguments
from nnunet_stochastic.evaluation import (
    MEASURES,
    Calibration,
    Workers,
    check_cases,
    check_same_model,
    describe_model,
    find_cases,
    map_in_threads,
)
from nnunet_stochastic.evaluation.confidence import ConfidenceFolder, needed_files
from nnunet_stochastic.evaluation.predicted_dataset import read_dataset
from nnunet_stochastic.io.folders import require_writable
from nnunet_stochastic.io.staging import staged_file

__all__ = ["main"]

# Files beside the predictions that other commands read.
_COPIED = ("dataset.json", "plans.json", "predict_from_raw_data_args.json", "uncertainty.json")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnunet_stochastic_apply_calibration",
        description="Turn uncertainty into confidence: the probability that the segmentation is right at a voxel, from "
        "each uncertainty map (platt), or from the probabilities (temperature).",
        epilog="platt writes confidence_aleatoric/, confidence_epistemic/ and confidence_total/, maps in the geometry "
        "of the image. temperature writes confidence/, the calibrated probabilities case.npz and a copy of the "
        "segmentation, which does not change, so that nnunet_stochastic_evaluate and nnUNetv2_ensemble can work on -o.",
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
        "-o", type=Path, metavar="FOLDER", help="output folder; temperature needs another one than -i (default: -i)"
    )
    parser.add_argument(
        "--method",
        choices=["platt", "temperature"],
        default="platt",
        help="how confidence is made: of the maps, or of the probabilities (default: %(default)s)",
    )
    parser.add_argument("-djfile", type=Path, metavar="FILE", help="dataset.json (default: the one inside -i)")
    add_processes(parser, "number of cases at a time, in threads")
    parser.add_argument(
        "--continue_calibration", action="store_true", help="keep the cases that an earlier command has finished"
    )
    add_disable_progress_bar(parser)
    return parser


@report_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Write confidences; the exit status is 0 when all were written."""
    arguments = parse_arguments(_parser(), argv)
    output, method = arguments.o or arguments.i, arguments.method
    if method == "temperature" and output.resolve() == arguments.i.resolve():
        raise ValueError("--method temperature would overwrite the probabilities in -i; choose another folder with -o")
    calibration = Calibration.load(arguments.calibration)
    if calibration.model is not None:
        check_same_model(describe_model(arguments.i), arguments.i, calibration.model, arguments.calibration)
    dataset = read_dataset(arguments.i, arguments.djfile, option="-i")
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
    require_writable(output)
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
        if (what in MEASURES) == (method == "platt"):
            print(f"left out: {what}: {reason}")
    print(f"{len(pending)} of {len(cases)} cases written: {output}")
    return 0
