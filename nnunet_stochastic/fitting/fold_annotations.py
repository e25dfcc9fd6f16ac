"""Which annotations a posterior is fitted against: of the law that the weights were trained on.

    p(W | D) ∝ p(W) Π_n p(t_n | W)        t_n as the training saw them

A network trained on one label per case, a majority vote for instance, is too certain of what raters disagree on. That
is aleatoric: more cases with such labels would not teach it. A temperature and a prior precision that are judged by the
raters' masks make up for it by members that differ, and the epistemic map holds it. So by default the annotations are
those of the training: a random rater's per load, whose expected likelihood is the mean over the raters, or labelsTr.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunet_stochastic.annotations import AnnotationChoice, Annotations
from nnunet_stochastic.checkpoints import read_checkpoint
from nnunet_stochastic.inference.model import Checkpoint, Model
from nnunet_stochastic.training.raters import RaterFolder, count_raters, trained_on_raters

__all__ = ["raters_to_fit_against", "trained_annotations"]


def trained_annotations(model: Model, checkpoint: Checkpoint) -> Annotations:
    """The annotations that a fold was trained on, by its checkpoint and its trainer."""
    init_args = read_checkpoint(checkpoint.path, trust=model.trust_checkpoint)["init_args"]
    known = {"dataset_json": model.dataset_json} | init_args
    return "raters" if trained_on_raters(known, train_on_raters=model.train_on_raters) else "labels"


def raters_to_fit_against(
    model: Model,
    dataset: Path,
    cases: Sequence[str],
    *,
    fit_against: AnnotationChoice,
    trained_against: Annotations,
) -> RaterFolder | None:
    """The raters' masks to fit against; ``None``: labelsTr.

    Parameters
    ----------
    model
        Model that is fitted.
    dataset
        Folder nnUNet_preprocessed/DATASET.
    cases
        Names of the cases that are read.
    fit_against
        ``trained``: what the model was trained on, or one of the two.
    trained_against
        Annotations that it was trained on.

    Raises
    ------
    ValueError
        If masks are needed that the dataset does not have, or that were not preprocessed.
    """
    if (trained_against if fit_against == "trained" else fit_against) == "labels":
        return None
    why = "the network was trained on them" if fit_against == "trained" else "--fit_against raters needs them"
    if not count_raters(model.dataset_json):
        raise ValueError(
            f"{model.folder / 'dataset.json'} has no num_raters, so there are no raters' masks, but {why}: fit against "
            "labelsTr with --fit_against labels, or restore the dataset.json of the training"
        )
    plans = model.plans_manager
    raters = RaterFolder.of_configuration(dataset, plans, model.configuration_manager, model.dataset_json)
    try:
        raters.require_complete(cases)
    except ValueError as error:
        raise ValueError(
            f"{error}; {why}: run `nnunet_stochastic_preprocess_raters -d {plans.dataset_name} -p {plans.plans_name} "
            f"-c {model.configuration_name}`, or fit against labelsTr with --fit_against labels"
        ) from error
    return raters
