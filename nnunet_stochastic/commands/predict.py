"""``nnunet_stochastic_predict``: nnUNetv2_predict with uncertainty maps."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nnunet_stochastic.commands._errors import report_errors, say_total_time
from nnunet_stochastic.commands._flags import (
    Number,
    add_device,
    add_disable_progress_bar,
    add_seed,
    add_step_size,
    add_trained_model,
    parse_arguments,
)
from nnunet_stochastic.commands._models import device_of, folds_of, trained_model_folder
from nnunet_stochastic.epistemic import EPISTEMIC_METHODS, EPISTEMIC_OPTIONS, NO_METHOD, methods_with
from nnunet_stochastic.io.names import counted
from nnunet_stochastic.prediction_choices import (
    ESTIMATORS,
    MAX_MAP_DIGITS,
    MAX_SAMPLES,
    MAX_SAVED_SAMPLES,
    MIN_MAP_DIGITS,
    PROBABILITY_FORMATS,
    TILES_AND_VIEWS,
)

__all__ = ["main"]


@report_errors
@say_total_time
def main(argv: Sequence[str] | None = None) -> int:
    """Predict a folder; return 0 if all cases went well, 1 if some failed, 128 + the signal where one ended it."""
    arguments = parse_arguments(_parser(), argv)
    for option in ("i", "o"):
        if not getattr(arguments, option):
            raise ValueError(f"-{option} is empty: name a folder")
    try:
        with _terminated_as_interrupted():
            return _predict(arguments)
    except KeyboardInterrupt as interruption:
        terminated = isinstance(interruption, _Terminated)
        print(
            f"{'terminated' if terminated else 'interrupted'}: complete cases are kept, and the same command with "
            "--continue_prediction goes on",
            file=sys.stderr,
        )
        return 128 + (signal.SIGTERM if terminated else signal.SIGINT)


class _Terminated(KeyboardInterrupt):
    """The end by SIGTERM, as a cluster sends it where the time is over: tidied up after like an interruption."""


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # others are sent no signals
        yield
        return

    def end(number: int, frame: object) -> None:
        raise _Terminated

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _predict(arguments: argparse.Namespace) -> int:
    # After parsing: nnU-Net takes seconds to import, and a typing error should not wait for it.
    from nnunet_stochastic.inference import (
        LesionChoice,
        PredictionOptions,
        StochasticPredictor,
        collapse_warning,
        degeneration_warning,
        predict_folder,
    )

    options = PredictionOptions(
        num_samples=arguments.num_samples,
        aleatoric=arguments.aleatoric,
        epistemic=arguments.epistemic,
        **{option.name: getattr(arguments, option.name) for option in EPISTEMIC_OPTIONS},
        estimator=arguments.estimator,
        tiles_and_views=arguments.tiles_and_views,
        num_saved_samples=arguments.save_samples,
        epistemic_factor=_epistemic_factor(arguments.rescale_epistemic),
        seed=arguments.seed,
        maps=arguments.maps,
        step_size=arguments.step_size,
        mirroring=not arguments.disable_tta,
        accumulate_on_device=not arguments.not_on_device,
    )
    device = device_of(arguments)
    folder = trained_model_folder(arguments)
    if not Path(arguments.i).is_dir():
        raise FileNotFoundError(f"there is no input folder {arguments.i}")
    predictor = StochasticPredictor.from_model_folder(
        folder,
        folds=folds_of(arguments),
        checkpoint_name=arguments.chk,
        trainer_name=None if arguments.m else arguments.tr,
        configuration_name=None if arguments.m else arguments.c,
        trust_checkpoint=arguments.trust_checkpoint,
        options=options,
        device=device,
    )
    settings = predictor.settings()
    print(_summary(settings))
    for note in settings["notes"]:
        print(f"note: {note}")
    if arguments.verbose:
        print(f"members: {', '.join(member.name for member in predictor.members)}")
        print(f"tiles and views: {settings['tiles_and_views']}; views: {', '.join(settings['views'])}")

    report = predict_folder(
        predictor,
        arguments.i,
        arguments.o,
        save_probabilities=arguments.save_probabilities,
        continue_prediction=arguments.continue_prediction,
        previous_stage_folder=arguments.prev_stage_predictions,
        preprocessing_threads=arguments.npp,
        export_threads=arguments.nps,
        num_parts=arguments.num_parts,
        part_id=arguments.part_id,
        progress=not arguments.disable_progress_bar,
        lesions=LesionChoice(tuple(arguments.lesions), arguments.min_lesion_ml),
        map_digits=arguments.map_digits,
        probability_format=arguments.probability_format,
    )
    if warning := collapse_warning(report.cases, num_members=len(predictor.members)):
        print(f"warning: {warning}", file=sys.stderr)
    if warning := degeneration_warning(report.cases):
        print(f"warning: {warning}", file=sys.stderr)
    if report.failures:
        print(f"{len(report.failures)} failed, all other cases are complete:", file=sys.stderr)
        for name, reason in report.failures.items():
            print(f"  {name}: {reason}", file=sys.stderr)
        return 1
    print(f"predictions are in {arguments.o}, settings and a summary of each case in its uncertainty.json")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnunet_stochastic_predict",
        description="Predict images with a trained nnU-Net and map the uncertainty of the prediction. It takes every "
        "nnU-Net model: one of this package's trainers gives all maps; so do several folds of any other one, which "
        "act as an ensemble; one fold of any other trainer gives the total uncertainty. Flags of nnUNetv2_predict "
        "mean the same here.",
    )
    _add_model_options(parser)
    _add_uncertainty_options(parser)
    _add_prediction_options(parser)
    return parser


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("images and model")
    add = group.add_argument
    add(
        "-i",
        required=True,
        metavar="FOLDER",
        help="folder of images, named CASE_0000.nii.gz and so on, one number per channel; or of DICOM series: a folder "
        "CASE with the slices for each case, CASE/0000, CASE/0001 and so on where the model has several channels",
    )
    add("-o", required=True, metavar="FOLDER", help="output folder; made if missing")
    add_trained_model(group)
    add("-prev_stage_predictions", metavar="FOLDER", help="for a cascade: segmentations of its previous stage")


def _add_uncertainty_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("uncertainty")
    add = group.add_argument
    drawn = [method for method in EPISTEMIC_METHODS.values() if method is not NO_METHOD]
    considered = ", ".join(method.name for method in EPISTEMIC_METHODS.values() if method.chosen_by_auto)
    add(
        "--epistemic",
        default="auto",
        choices=("auto", *EPISTEMIC_METHODS),
        help=f"where the members come from: {', '.join(f'{method.members} ({method.name})' for method in drawn)}. auto "
        f"takes the first of {considered} that the model has, else {NO_METHOD.name} (default: %(default)s)",
    )
    for option in EPISTEMIC_OPTIONS:
        users = ", ".join(method.name for method in methods_with(option))
        add(
            f"--{option.name}",
            type=Number(option.kind, option.least, option.most),
            default=option.default,
            metavar=option.letter,
            help=f"{option.help}, for {users} (default: {option.default_text or '%(default)s'})",
        )
    add(
        "--aleatoric",
        default="model",
        choices=("model", "tta"),
        help="what one member's samples are: what a stochastic network predicts, or, for a deterministic one, passes "
        "of mirrored images with shifted intensities (test-time augmentation; K passes, so slower) "
        "(default: %(default)s)",
    )
    add(
        "--num_samples",
        type=Number(int, 1, MAX_SAMPLES),
        default=30,
        metavar="K",
        help="number of samples per member, at least 1; of no effect with the exact estimator (default: %(default)s)",
    )
    add(
        "--estimator",
        default="auto",
        choices=ESTIMATORS,
        help="how maps are made of a member's samples. exact: their limit for K = infinity by quadrature, for Gaussian "
        "trainers with two classes or regions. mc: K samples, stratified and the same for all members. plug_in: K "
        "independent samples of each member, as in the tables of Christensen et al. (Rethinking Uncertainty "
        "Quantification and Entanglement in Image Segmentation); their noise counts as epistemic. "
        "auto: exact where it exists, else mc (default: %(default)s)",
    )
    add(
        "--tiles_and_views",
        default="blend",
        choices=TILES_AND_VIEWS,
        help="how tiles and mirrored views become one prediction. blend: as nnU-Net blends logits, for models whose "
        "voxels have a Gaussian law. average: the mean of their probabilities, which are resampled to the image, too: "
        "less certain where views or neighbours disagree, and whole samples of one view each (default: %(default)s)",
    )
    add(
        "--save_samples",
        type=Number(int, 0, MAX_SAVED_SAMPLES),
        default=0,
        metavar="N",
        help="also write N whole segmentations per case to samples/, each one plausible outcome, and how volumes vary "
        "over them. An outcome of probability q is in none of them with (1 - q)^N: 10 miss one of 17 %% in every sixth "
        "case, 29 one of 10 %% and 59 one of 5 %% with less than 5 %%; an interval of volumes of level 90 %% needs at "
        "least 19 (see sample_intervals in uncertainty.json). Of what they need 2 GiB are held at most, and one "
        "sample per export thread "
        "(default: %(default)s)",
    )
    add(
        "--rescale_epistemic",
        metavar="FACTOR|FOLDER",
        help="multiply the epistemic map with a number, or with the ratio of mean aleatoric to mean "
        "epistemic uncertainty of an earlier prediction in FOLDER (of validation images), and let total be "
        "aleatoric + epistemic: a correction where epistemic is too small to matter (default: no)",
    )
    add_seed(group)
    add(
        "--maps",
        nargs="+",
        metavar="MAP",
        help="maps to write, of: total aleatoric epistemic variance (default: all that the model has)",
    )
    add(
        "--map_digits",
        type=Number(int, MIN_MAP_DIGITS, MAX_MAP_DIGITS),
        default=MAX_MAP_DIGITS,
        metavar="N",
        help="binary digits that the numbers of maps keep: the relative error is at most 2^-(N + 1), and total is "
        "aleatoric + epistemic to 2^-N of it. 23 is all that float32 has; 10 take half the disk, with an error of "
        "5e-4 (default: %(default)s)",
    )


def _add_prediction_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("prediction")
    add = group.add_argument
    add_step_size(group)
    add(
        "--disable_tta",
        action="store_true",
        help="predict no mirrored views: up to 8 times faster in 3D, less accurate",
    )
    add(
        "--save_probabilities",
        action="store_true",
        help="write the predictive mean, which evaluation needs",
    )
    add(
        "--probability_format",
        choices=PROBABILITY_FORMATS,
        default="npz",
        help="how: npz is nnU-Net's file CASE.npz, with CASE.pkl; nifti writes probabilities/CASE_0000.nii.gz and so "
        "on, an image per class (or region, in the order of dataset.json) with the geometry of the case, for viewers "
        "and other programs (default: %(default)s)",
    )
    add(
        "--lesions",
        nargs="+",
        default=[],
        metavar="LABEL",
        help="structures, named as in dataset.json, whose connected parts are lesions: lesions.csv then says of each "
        "where it is, how large, and how probable that it exists (share of the whole samples, or else of the members, "
        "that have it); with --save_samples also candidates, which only some samples have",
    )
    add(
        "--min_lesion_ml",
        type=Number(float, 0, 1e6),
        default=0.0,
        metavar="ML",
        help="volume below which a connected part is no lesion, ml (default: %(default)s)",
    )
    add("--continue_prediction", action="store_true", help="skip the cases that are complete in the output folder")
    add(
        "-npp",
        type=Number(int, 0, 1024),
        default=3,
        metavar="N",
        help="number of threads that preprocess, 0 for none (default: %(default)s)",
    )
    add(
        "-nps",
        type=Number(int, 0, 1024),
        default=3,
        metavar="N",
        help="number of threads that export, 0 for none (default: %(default)s)",
    )
    add(
        "-num_parts",
        type=Number(int, 1, 100_000),
        default=1,
        metavar="N",
        help="number of commands that share the cases (default: %(default)s)",
    )
    add(
        "-part_id",
        type=Number(int, 0, 100_000),
        default=0,
        metavar="I",
        help="which of them this one is, from 0 (default: %(default)s)",
    )
    add_device(group)
    add(
        "--not_on_device",
        action="store_true",
        help="keep sums in main memory: slower, for large images",
    )
    add_disable_progress_bar(group)
    add("--verbose", action="store_true", help="print more")


def _summary(settings: dict[str, Any]) -> str:
    """One line: which model, what the members and samples are, and what is written."""
    folds = ", ".join(settings["checkpoints"])
    if settings["training_data_of_folds"] is not None:
        folds += f" (training data: {settings['training_data_of_folds']})"
    members = f"members: {folds}"
    method = EPISTEMIC_METHODS.get(settings["epistemic_source"])
    if method is not None and (method.draws_members or settings["members"] > len(settings["checkpoints"])):
        members = f"{counted(settings['members'], 'member')} by {method.name} of {folds}"
    if settings["aleatoric_source"] != "none":
        if settings["estimator"] == "exact":
            members += ", exact expectations"
        else:
            augmented = " by test-time augmentation" if settings["aleatoric_source"] == "tta" else ""
            members += f", {counted(settings['num_samples'], 'sample')} each{augmented}"
    written = ", ".join(settings["maps"])
    if settings["num_saved_samples"]:
        written += f" and {counted(settings['num_saved_samples'], 'whole sample')}"
    return f"{settings['trainer']}, {members}; maps: {written}"


def _epistemic_factor(text: str | None) -> float:
    from nnunet_stochastic.inference import epistemic_factor

    if text is None:
        return 1.0
    try:
        return float(text)
    except ValueError:
        return epistemic_factor(Path(text) / "uncertainty.json")
