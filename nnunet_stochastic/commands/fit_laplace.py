"""``nnunet_stochastic_fit_laplace``: epistemic uncertainty for a network that is trained already."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_stochastic.annotations import ANNOTATION_CHOICES, ANNOTATION_NAMES
from nnunet_stochastic.commands._errors import report_errors, say_total_time
from nnunet_stochastic.commands._flags import (
    add_device,
    add_disable_progress_bar,
    add_step_size,
    add_trained_model,
    parse_arguments,
)
from nnunet_stochastic.commands._models import device_of, folds_of, trained_model_folder

if TYPE_CHECKING:
    from nnunet_stochastic.posteriors.laplace_fit import LaplaceFit

__all__ = ["main"]


@report_errors
@say_total_time
def main(argv: Sequence[str] | None = None) -> int:
    """Fit each fold and print what was chosen; return 0."""
    arguments = parse_arguments(_parser(), argv)
    # After parsing: nnU-Net takes seconds to import, and a typing error should not wait for it.
    from nnunet_stochastic.fitting.laplace import LaplaceFitting
    from nnunet_stochastic.inference import load_model

    device = device_of(arguments)
    model = load_model(
        trained_model_folder(arguments),
        folds=folds_of(arguments),
        checkpoint_name=arguments.chk,
        trainer_name=None if arguments.m else arguments.tr,
        configuration_name=None if arguments.m else arguments.c,
        trust_checkpoint=arguments.trust_checkpoint,
    )
    fitting = LaplaceFitting(
        model, device, criterion=arguments.fit, step_size=arguments.step_size, fit_against=arguments.fit_against
    )
    # Of all folds first: what is wrong with the last should not be found after hours.
    cases = [fitting.check(checkpoint, overwrite=arguments.overwrite) for checkpoint in model.checkpoints]
    for checkpoint, cases_of_fold in zip(model.checkpoints, cases, strict=True):
        fit = fitting.fit(checkpoint, cases_of_fold, progress=not arguments.disable_progress_bar)
        print(_summary(checkpoint.folder, fit))
    return 0


def _summary(folder: Path, fit: LaplaceFit) -> str:
    record, curvature = fit.record, fit.curvature
    number = curvature.num_logits * curvature.num_inputs
    raters = f" ({record['annotations']} per case)" if fit.fitted_against == "raters" else ""
    lines = [
        f"{folder}: {number} weights, {curvature.structure} matrix, of {len(record['training_cases'])} training cases "
        f"with {fit.voxels:.4g} annotated voxels",
        f"  temperature {fit.temperature:.3g} ({fit.effective_voxels:.3g} effective voxels), prior precision "
        f"{fit.prior_precision:.3g} ({fit.determined_weights:.3g} weights determined by the data), by "
        f"{fit.criterion} against {ANNOTATION_NAMES[fit.fitted_against]}{raters}; trained on "
        f"{ANNOTATION_NAMES[fit.trained_against]}",
    ]
    notes = fit.notes()
    if "nll" in record:
        lines.append(
            f"  negative log-likelihood on {len(record['validation_cases'])} validation cases: "
            f"{record['nll']:.5f}, of the trained weights alone {record['nll_trained']:.5f} nats per voxel"
        )
        if record["nll"] >= record["nll_trained"]:
            remedy = "members will hardly differ" if fit.criterion == "nll" else "--fit nll chooses by these cases"
            notes.append(f"on these cases the trained weights alone are no worse: {remedy}")
    return "\n".join([*lines, *(f"  note: {note}" for note in notes)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnunet_stochastic_fit_laplace",
        description="Fit a Gaussian to the last layer of a trained network (Laplace approximation), of which "
        "nnunet_stochastic_predict --epistemic laplace draws members: a real epistemic map from one training, at the "
        "cost of about one network. It reads the preprocessed training and validation cases of each fold once, writes "
        "laplace.pth beside the checkpoint, and goes on where it was when it is started again after an interruption. "
        "For models of any trainer on nnU-Net's U-Nets; of a Gaussian model the mean is varied.",
    )
    add = parser.add_argument
    add_trained_model(parser)
    add(
        "--fit",
        default="nll",
        choices=("nll", "marginal_likelihood"),
        help="what chooses temperature (how much a voxel counts, since neighbours are not independent) and prior "
        "precision: the negative log-likelihood of the predictive mean on the fold's validation cases, or the marginal "
        "likelihood of the training cases, with the temperature by which the scores of cases vary "
        "(default: %(default)s)",
    )
    add(
        "--fit_against",
        default="trained",
        choices=ANNOTATION_CHOICES,
        help="annotations that this is judged by: those that the network was trained on, by its trainer and "
        "checkpoint, or labelsTr, or the raters' preprocessed masks. Against others than it was trained on, what "
        "differs between the two counts as epistemic (default: %(default)s)",
    )
    add_step_size(parser)
    add("--overwrite", action="store_true", help="replace a laplace.pth that is there")
    add_device(parser)
    add_disable_progress_bar(parser)
    return parser
