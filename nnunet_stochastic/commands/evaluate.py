"""``nnunet_stochastic_evaluate``: scores, tables and pictures of a folder of predictions with probabilities."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from nnunet_stochastic.commands._errors import report_errors
from nnunet_stochastic.commands._pictures import PICTURE_DPI, write_pictures
from nnunet_stochastic.evaluation import (
    ALL_CLASSES,
    RATERS,
    REFERENCE,
    CaseFiles,
    EvaluatedLabels,
    Evaluation,
    check_cases,
    evaluate_cases,
    find_cases,
)
from nnunet_stochastic.evaluation.cases import ImageReader
from nnunet_stochastic.report import reliability_figure, summary_table

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnunet_stochastic_evaluate",
        description="Dice, NLL, Brier score, ECE and MCE of predictions, per class and case; a reliability diagram, "
        "and a picture of each case. The predictions must have been made with --save_probabilities.",
        epilog="Writes summary.json (means and the conventions used), cases.csv (a row per case, annotation and "
        "class), reliability.png and pictures/. Every metric is computed on all voxels of the original image.",
    )
    parser.add_argument(
        "-pred", type=Path, required=True, help="folder with predictions (output of nnunet_stochastic_predict)"
    )
    parser.add_argument("-gt", type=Path, required=True, help="folder with reference segmentations, such as labelsTs")
    parser.add_argument(
        "-gt_raters",
        type=Path,
        help="folder with each rater's segmentation, case_rater0.nii.gz, case_rater1.nii.gz and so on. "
        "Predictions are then also scored against each rater, and these scores averaged",
    )
    parser.add_argument("-o", type=Path, help="output folder. Default: the folder `evaluation` inside -pred")
    parser.add_argument("-djfile", type=Path, help="dataset.json. Default: the one inside -pred")
    parser.add_argument(
        "-i",
        type=Path,
        help="folder with the input images, for the pictures. Default: where uncertainty.json found them",
    )
    parser.add_argument(
        "-np",
        type=int,
        default=min(4, os.cpu_count() or 1),
        help="cases evaluated at a time, in threads; each needs memory for its probabilities. Default: %(default)s",
    )
    parser.add_argument(
        "--chill", action="store_true", help="do not stop if -pred lacks some of the cases of -gt; evaluate the others"
    )
    parser.add_argument(
        "--shared_scale",
        action="store_true",
        help="draw the aleatoric, epistemic and total map of a picture on one colour scale, which shows how they "
        "compare but hides a small one. Default: each from 0 to its own maximum",
    )
    parser.add_argument("--no_pictures", action="store_true", help="write no picture per case")
    parser.add_argument("--disable_progress_bar", action="store_true", help="draw no progress bars")
    return parser


@report_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate a prediction folder; the exit status is 0 when everything was written."""
    arguments = _parser().parse_args(argv)
    if arguments.np < 1:
        raise ValueError(f"-np must be at least 1, got {arguments.np}.")
    if not arguments.pred.is_dir():
        raise FileNotFoundError(f"The folder {arguments.pred} (-pred) does not exist.")
    dataset_json_file = arguments.djfile or arguments.pred / "dataset.json"
    dataset_json = _load_json(dataset_json_file, option="-djfile")
    if missing := {"labels", "file_ending"} - dataset_json.keys():
        raise ValueError(f"{dataset_json_file} lacks {' and '.join(sorted(missing))}; it is no nnU-Net dataset.json.")
    labels = EvaluatedLabels.from_dataset_json(dataset_json)
    cases, problems = find_cases(
        arguments.pred,
        arguments.gt,
        arguments.gt_raters,
        file_ending=dataset_json["file_ending"],
        num_raters=dataset_json.get("num_raters"),
        allow_missing_predictions=arguments.chill,
    )
    output = arguments.o or arguments.pred / "evaluation"
    _require_writable(output)
    images = _first_images(cases, arguments.pred, arguments.i, dataset_json["file_ending"])
    reader = _find_reader(arguments.pred, dataset_json)
    progress = not arguments.disable_progress_bar
    check_cases(cases, labels, reader, problems=problems, num_threads=arguments.np, show_progress=progress)

    evaluation = evaluate_cases(cases, labels, reader, num_threads=arguments.np, show_progress=progress)
    folders = {"prediction": arguments.pred, "reference": arguments.gt, "raters": arguments.gt_raters}
    _write_tables(evaluation, labels, output, folders=folders)
    if not arguments.no_pictures:
        write_pictures(
            cases,
            labels,
            reader,
            output / "pictures",
            images=images,
            file_ending=dataset_json["file_ending"],
            shared_scale=arguments.shared_scale,
            num_threads=arguments.np,
            show_progress=progress,
        )

    console = Console()
    for annotation in evaluation.summary["results"]:
        console.print(summary_table(evaluation.summary, annotation=annotation))
    print(f"summary.json, cases.csv, reliability.png{'' if arguments.no_pictures else ', pictures'}: {output}")
    return 0


def _load_json(path: Path, *, option: str) -> dict:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; name the file with {option}.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}.") from error


def _require_writable(folder: Path) -> None:
    """Find out before the work, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"The output folder {folder} cannot be written ({error}); choose another with -o.") from error


def _find_reader(prediction_folder: Path, dataset_json: dict) -> ImageReader:
    """The reader that the predictions were written with, else the one nnU-Net would choose for the dataset."""
    # Here and not at the top: it takes seconds, which --help and a wrong path need not wait for.
    from nnunetv2.imageio.reader_writer_registry import (
        determine_reader_writer_from_dataset_json,
        recursive_find_reader_writer_by_name,
    )

    plans = prediction_folder / "plans.json"
    try:
        if plans.is_file():
            name = _load_json(plans, option="-pred")["image_reader_writer"]
            return recursive_find_reader_writer_by_name(name)()
        example = str(next(prediction_folder.glob(f"*{dataset_json['file_ending']}")))
        return determine_reader_writer_from_dataset_json(dataset_json, example, verbose=False)()
    except RuntimeError as error:
        raise ValueError(str(error)) from error


def _write_tables(
    evaluation: Evaluation, labels: EvaluatedLabels, output: Path, *, folders: dict[str, Path | None]
) -> None:
    paths = {name: None if folder is None else str(folder.resolve()) for name, folder in folders.items()}
    summary = {"folders": paths, **evaluation.summary}
    (output / "summary.json").write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    evaluation.rows.to_csv(output / "cases.csv", index=False)
    # Calibration per class against the annotation that was asked for last: raters where there are any.
    per_class = evaluation.bins[RATERS if RATERS in evaluation.bins else REFERENCE]
    figure = reliability_figure(
        {annotation: bins[ALL_CLASSES] for annotation, bins in evaluation.bins.items()},
        {name: per_class[name] for name in labels.names},
    )
    figure.savefig(output / "reliability.png", dpi=PICTURE_DPI)


def _first_images(
    cases: Sequence[CaseFiles], prediction_folder: Path, image_folder: Path | None, file_ending: str
) -> dict[str, Path]:
    """File with the first channel of each case's image, for the cases where it is known and still there."""
    if image_folder is not None:
        images = {case.name: image_folder / f"{case.name}_0000{file_ending}" for case in cases}
        missing = [str(image) for image in images.values() if not image.is_file()]
        if missing:
            raise FileNotFoundError(f"Images are missing in -i: {', '.join(missing)}.")
        return images
    record = prediction_folder / "uncertainty.json"
    if not record.is_file():  # predictions of nnU-Net's own command keep no record
        return {}
    entries = _load_json(record, option="-pred")["cases"]
    images = {case.name: Path(entries[case.name]["input_files"][0]) for case in cases if case.name in entries}
    return {name: image for name, image in images.items() if image.is_file()}
