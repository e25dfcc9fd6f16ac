"""Fit the last-layer Laplace approximation of a trained fold: one pass over its training cases, then τ and δ.

The result is ``fold_X/laplace.pth`` (see ``posteriors.laplace_fit``), of which ``--epistemic`` draws members.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from nnunet_stochastic.annotations import ANNOTATION_CHOICES, AnnotationChoice
from nnunet_stochastic.fitting.curvature_pass import add_case
from nnunet_stochastic.fitting.fold_cases import FoldCases, find_fold_cases
from nnunet_stochastic.fitting.laplace_choice import (
    LaplaceChoice,
    PredictiveMean,
    choose_by_marginal_likelihood,
    choose_by_nll,
)
from nnunet_stochastic.fitting.tile_features import CaseTiles
from nnunet_stochastic.fitting.unfinished_fit import UnfinishedFit
from nnunet_stochastic.fitting.validation_points import ValidationPoints, collect_points
from nnunet_stochastic.inference.blending import has_voxel_law
from nnunet_stochastic.inference.convolutions import benchmarking_convolutions
from nnunet_stochastic.inference.model import Checkpoint, Model, load_weights
from nnunet_stochastic.io.hashing import content_sha256
from nnunet_stochastic.io.names import shown
from nnunet_stochastic.networks.last_layer import last_layer_weights
from nnunet_stochastic.posteriors.laplace_fit import LAPLACE_FILE, LaplaceFit
from nnunet_stochastic.progress import progress_bar
from nnunet_stochastic.training.fold_lock import lock_fold
from nnunet_stochastic.voxel_law import MAX_CLASSES

__all__ = ["MAX_POINTS", "Criterion", "LaplaceFitting", "require_last_layer"]

Criterion = Literal["nll", "marginal_likelihood"]
#: Validation voxels at most, over all cases.
MAX_POINTS = 1 << 16


def require_last_layer(model: Model) -> None:
    """Raise ``ValueError`` for a model whose last layer has no Laplace approximation here."""
    try:
        last_layer_weights(model.network)
    except ValueError as error:
        raise ValueError(
            f"{model.trainer_name}: {error}; the Laplace approximation is of a last layer in whose weights the logits "
            "are linear, which models with a latent variable and diffusion do not have"
        ) from error
    if not has_voxel_law(model.space, has_samples=model.has_samples, gaussian=model.gaussian):
        raise ValueError(
            f"{model.trainer_name} predicts a Gaussian over {model.space.num_logits} exclusive classes, and the fit to "
            f"its mean needs the law of each voxel, which is kept for up to {MAX_CLASSES} classes and for regions: fit "
            "the deterministic model of the dataset"
        )


@dataclass(frozen=True)
class LaplaceFitting:
    """How to fit.

    Parameters
    ----------
    model
        Model of the folds.
    device
        Device on which the network runs.
    criterion
        What chooses τ and δ, see ``laplace_choice``.
    step_size
        Distance of tiles as a fraction of the patch, in [0.01, 1].
    fit_against
        Annotations that the fit sees, see ``fold_annotations``.
    """

    model: Model
    device: torch.device
    criterion: Criterion = "nll"
    step_size: float = 0.5
    fit_against: AnnotationChoice = "trained"

    def __post_init__(self) -> None:
        if self.criterion not in get_args(Criterion):
            raise ValueError(f"the criterion must be one of {', '.join(get_args(Criterion))}, got {self.criterion}")
        if self.fit_against not in ANNOTATION_CHOICES:
            raise ValueError(
                f"fit_against must be one of {', '.join(ANNOTATION_CHOICES)}, got {shown(self.fit_against)}"
            )
        require_last_layer(self.model)

    def check(self, checkpoint: Checkpoint, *, overwrite: bool) -> FoldCases:
        """Lock a fold and give its cases; raise ``ValueError`` or ``OSError`` for whatever would stop its fit."""
        if (checkpoint.folder / LAPLACE_FILE).is_file() and not overwrite:
            raise ValueError(f"{checkpoint.folder / LAPLACE_FILE} is there: --overwrite fits it again")
        lock_fold(checkpoint.folder)
        cases = find_fold_cases(self.model, checkpoint, fit_against=self.fit_against)
        if self.criterion == "nll" and not cases.validation:
            raise ValueError(
                f"{checkpoint.name} has no validation cases, on which temperature and prior precision are chosen: take "
                "--fit marginal_likelihood"
            )
        return cases

    @torch.inference_mode()
    def fit(self, checkpoint: Checkpoint, cases: FoldCases, *, progress: bool = False) -> LaplaceFit:
        """Fit a fold and write its file.

        Parameters
        ----------
        checkpoint
            Trained weights of the fold.
        cases
            Its cases, as ``check`` returns them.
        progress
            Whether to show bars over the cases.
        """
        model = self.model
        lock_fold(checkpoint.folder)
        load_weights(model, checkpoint)
        model.network.to(self.device)
        weight, bias = last_layer_weights(model.network)
        settings = self._settings(checkpoint, cases)
        num_inputs = weight[0].numel() + 1
        fit = UnfinishedFit(checkpoint.folder, settings, num_logits=len(weight), num_inputs=num_inputs)
        with benchmarking_convolutions(self.device):
            self._sum_training(fit, cases, checkpoint.name, progress=progress)
            self._collect_validation(fit, cases, checkpoint.name, progress=progress)
        squared_weights = float(weight.double().square().sum() + bias.double().square().sum())
        choice, found = self._choose(fit, squared_weights)
        result = LaplaceFit(
            curvature=fit.curvature,
            regions=model.space.regions,
            temperature=choice.temperature,
            prior_precision=choice.prior_precision,
            checkpoint_sha256=checkpoint.sha256,
            plans_sha256=settings["plans_sha256"],
            criterion=self.criterion,
            fitted_against=cases.fitted_against,
            trained_against=cases.trained_against,
            voxels=sum(sums["voxels"] for sums in fit.training.values()),
            at_edge=choice.at_edge,
            record={**settings, **found},
        )
        result.save(checkpoint.folder)
        fit.remove()
        return result

    def _settings(self, checkpoint: Checkpoint, cases: FoldCases) -> dict[str, Any]:
        model = self.model
        return {
            "checkpoint": checkpoint.path.name,
            "checkpoint_sha256": checkpoint.sha256,
            "plans_sha256": content_sha256(model.plans_manager.plans),
            "trainer": model.trainer_name,
            "configuration": model.configuration_name,
            "fold": checkpoint.name,
            "step_size": self.step_size,
            "fitted_against": cases.fitted_against,
            "trained_against": cases.trained_against,
            "annotations": cases.num_annotations,
            "training_cases": list(cases.training),
            "validation_cases": list(cases.validation),
        }

    def _tiles(self, cases: FoldCases, name: str) -> CaseTiles:
        return CaseTiles(self.model, cases.load(name), self.device, step_size=self.step_size)

    def _sum_training(self, fit: UnfinishedFit, cases: FoldCases, fold: str, *, progress: bool) -> None:
        left = [name for name in cases.training if name not in fit.training]
        with progress_bar(total=len(cases.training), description=f"{fold}, training cases", show=progress) as bar:
            bar.update(len(cases.training) - len(left))
            for name in left:
                sums = add_case(fit.curvature, self.model.space, self._tiles(cases, name), name=name)
                fit.add_training(name, sums)
                bar.update()
        if not fit.curvature.trace > 0:
            raise ValueError(
                f"the curvature of {fold} is 0: no voxel of its training cases is annotated, or the network is certain "
                "of every one"
            )

    def _collect_validation(self, fit: UnfinishedFit, cases: FoldCases, fold: str, *, progress: bool) -> None:
        left = [name for name in cases.validation if name not in fit.validation]
        with progress_bar(total=len(cases.validation), description=f"{fold}, validation cases", show=progress) as bar:
            bar.update(len(cases.validation) - len(left))
            for name in left:
                number = max(1, MAX_POINTS // len(cases.validation))
                points = collect_points(self._tiles(cases, name), name=name, num_points=number)
                fit.add_validation(name, None if points is None else points.state())
                bar.update()

    def _choose(self, fit: UnfinishedFit, squared_weights: float) -> tuple[LaplaceChoice, dict[str, Any]]:
        """The choice, and numbers for the record."""
        spectrum = fit.curvature.spectrum()
        scores = sum(sums["squared_score"] for sums in fit.training.values())
        of_scores = min(1.0, fit.curvature.trace / scores) if scores > 0 else 1.0
        states = [state for state in fit.validation.values() if state is not None]
        mean = PredictiveMean(self.model.space, ValidationPoints.join(states), spectrum) if states else None
        if self.criterion == "marginal_likelihood":
            choice = choose_by_marginal_likelihood(spectrum, squared_weights, of_scores)
        elif mean is None:
            raise ValueError("no voxel of the validation cases is annotated: take --fit marginal_likelihood")
        else:
            choice = choose_by_nll(mean)
        found: dict[str, Any] = {
            "temperature_of_scores": of_scores,
        }
        if mean is not None:
            found["nll_trained"] = mean.nll_of_trained_weights()
            found["nll"] = mean.nll(choice.temperature, choice.prior_precision)
        return choice, found
