"""What decided a prediction, in words and numbers, for uncertainty.json."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from nnunet_stochastic import __version__
from nnunet_stochastic.epistemic import EPISTEMIC_METHODS, EPISTEMIC_OPTIONS, NO_METHOD, NUM_MEMBERS, EpistemicMethod
from nnunet_stochastic.inference.collapse import STAND_IN_NOTE
from nnunet_stochastic.inference.fold_data import FoldData, data_of_folds
from nnunet_stochastic.inference.members import Member
from nnunet_stochastic.inference.model import Model
from nnunet_stochastic.inference.options import PredictionOptions
from nnunet_stochastic.inference.sample_numbers import sample_intervals
from nnunet_stochastic.inference.sliding_window import TTA_SHIFT_SD, View
from nnunet_stochastic.io.hashing import content_sha256, file_sha256
from nnunet_stochastic.io.names import counted
from nnunet_stochastic.maps import MapName
from nnunet_stochastic.posteriors import WeightPosterior, posterior_class
from nnunet_stochastic.prediction_choices import SettledEstimator

__all__ = ["AVERAGED", "BLENDED", "describe_settings"]

#: Keys of dataset.json that decide about the files of a prediction.
_DECIDING_KEYS = ("channel_names", "modality", "labels", "regions_class_order", "file_ending")
#: How tiles and views become one prediction, in a record.
BLENDED = "blended as laws of the logits"
AVERAGED = "averaged as probabilities"


def describe_settings(
    model: Model,
    options: PredictionOptions,
    *,
    method: EpistemicMethod,
    members: Sequence[Member],
    samples_of_views: Mapping[View, int],
    has_samples: bool,
    blends_laws: bool,
    estimator: SettledEstimator,
    maps: Sequence[MapName],
    device: torch.device,
) -> dict[str, Any]:
    """Settings of a prediction, JSON-serializable.

    Parameters
    ----------
    model, options
        What predicts, and how.
    method, members, samples_of_views, has_samples, blends_laws, estimator, maps, device
        What followed from them.
    """
    files_of_method = posterior_class(method).files
    posteriors = {member.checkpoint.name: member.posterior for member in members}
    checkpoints = {
        checkpoint.name: {
            "file": checkpoint.path.name,
            "sha256": checkpoint.sha256,
            **{f"{Path(file).stem}_sha256": file_sha256(checkpoint.folder / file) for file in files_of_method},
            **({method.name: settings} if (settings := posteriors[checkpoint.name].settings()) else {}),
        }
        for checkpoint in model.checkpoints
    }
    folds = _data_of_folds(model)
    return {
        "model_folder": str(model.folder.resolve()),
        "trainer": model.trainer_name,
        "configuration": model.configuration_name,
        "checkpoints": checkpoints,
        "training_data_of_folds": folds.data if folds is not None else None,
        "plans_sha256": content_sha256(model.plans_manager.plans),
        "dataset_sha256": content_sha256({key: model.dataset_json.get(key) for key in _DECIDING_KEYS}),
        "members": len(members),
        "num_samples": options.num_samples if has_samples else 1,
        "seed": options.seed,
        "maps": list(maps),
        "aleatoric_source": ("tta" if options.aleatoric == "tta" else "model") if has_samples else "none",
        "epistemic_source": _epistemic_source(method, len(members), has_samples=has_samples),
        "estimator": estimator if has_samples else "none",
        "tiles_and_views": BLENDED if blends_laws else AVERAGED,
        **_method_options(method, options),
        "tta_shift_sd": TTA_SHIFT_SD if options.aleatoric == "tta" else None,
        "num_saved_samples": options.num_saved_samples,
        **({"sample_intervals": sample_intervals(options.num_saved_samples)} if options.num_saved_samples else {}),
        "epistemic_factor": options.epistemic_factor,
        "step_size": options.step_size,
        "views": _views(samples_of_views, options, blends_laws=blends_laws),
        "accumulate_on_device": options.accumulate_on_device,
        "device": device.type,
        "units": {"total": "nat", "aleatoric": "nat", "epistemic": "nat", "variance": "squared probability"},
        "notes": _notes(
            model,
            options,
            method,
            len(members),
            has_samples=has_samples,
            blends_laws=blends_laws,
            estimator=estimator,
            maps=maps,
            folds=folds,
            posteriors=posteriors,
        ),
        "versions": {
            "nnunet_stochastic": __version__,
            "nnunetv2": version("nnunetv2"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def _data_of_folds(model: Model) -> FoldData | None:
    """What is known of the training cases of the folds, if there are several."""
    if len(model.checkpoints) < 2:
        return None
    folders = [checkpoint.folder for checkpoint in model.checkpoints]
    return data_of_folds(model.plans_manager.dataset_name, folders, file_ending=model.dataset_json["file_ending"])


def _method_options(method: EpistemicMethod, options: PredictionOptions) -> dict[str, float | None]:
    """Values of all methods' options, ``None`` for those of other methods; the number of members is said elsewhere."""
    used = options.of_epistemic_method(method)
    return {option.name: used.get(option.name) for option in EPISTEMIC_OPTIONS if option is not NUM_MEMBERS}


def _epistemic_source(method: EpistemicMethod, num_members: int, *, has_samples: bool) -> str:
    if num_members > 1:
        return method.name
    return "aleatoric_samples" if has_samples else NO_METHOD.name


def _views(samples_of_views: Mapping[View, int], options: PredictionOptions, *, blends_laws: bool) -> dict[str, Any]:
    """Names of the views; where probabilities are averaged, with the samples of each."""
    if options.aleatoric == "tta":  # the shifts of intensity are other ones for each case
        return dict(Counter(replace(view, shift=()).name for view in samples_of_views))
    return {view.name: None if blends_laws else count for view, count in samples_of_views.items()}


def _notes(
    model: Model,
    options: PredictionOptions,
    method: EpistemicMethod,
    num_members: int,
    *,
    has_samples: bool,
    blends_laws: bool,
    estimator: SettledEstimator,
    maps: Sequence[MapName],
    folds: FoldData | None,
    posteriors: Mapping[str, WeightPosterior],
) -> list[str]:
    notes = []
    if folds is not None and folds.data == "different":
        notes.append(
            "cross-validation folds (different data): members differ in the cases that they were trained on, too, and "
            "are no deep ensemble, for which nnunet_stochastic_ensemble_splits gives all folds the same cases"
        )
    elif folds is not None and folds.data == "unknown":
        notes.append(
            f"folds (splits unknown): whether they were trained on the same cases is not known, {folds.reason}"
        )
    if num_members == 1 and not has_samples:
        notes.append("one deterministic network: only the total uncertainty exists")
    elif num_members == 1 and {"epistemic", "aleatoric"} & set(maps):
        notes.append(STAND_IN_NOTE)
    if not has_samples:
        over = ", variance is over the members" if num_members > 1 else ""
        notes.append(f"deterministic networks: num_samples has no effect{over}")
    notes += [f"{fold}: {note}" for fold, posterior in posteriors.items() for note in posterior.notes()]
    unused = (other for other in EPISTEMIC_METHODS.values() if posterior_class(other) is not posterior_class(method))
    notes += [note for other in unused if (note := posterior_class(other).note_of_disuse(other, model.network))]
    if has_samples and estimator == "exact":
        notes.append("exact moments: num_samples has no effect, maps are the limit of many samples")
    if has_samples and estimator == "plug_in" and options.aleatoric == "model":  # augmented passes are shared anyway
        notes.append(
            "plug-in estimator: the noise of the samples counts as epistemic uncertainty, and the aleatoric map is too "
            "low by as much"
        )
    if not blends_laws:
        notes.append(
            "tiles and views are averaged as probabilities, "
            + ("as asked for" if options.tiles_and_views == "average" else "because no voxel has a law to be blended")
            + ": the segmentation may differ from that of nnUNetv2_predict where they disagree"
        )
    if (number := options.num_saved_samples) and number < (told := sample_intervals(number))["least_num_samples"]:
        notes.append(
            f"{counted(number, 'whole sample')}: they miss an outcome of a probability below "
            f"{told['missed_mode']:.0%} with more "
            f"than {told['missed_with']:.0%}, and p5_ml to p95_ml cover {told['covers']:.0%} of the volumes and not "
            f"{told['level']:.0%}; an interval of that level needs {counted(told['least_num_samples'], 'sample')} "
            "(sample_intervals in uncertainty.json)"
        )
    if options.epistemic_factor != 1:
        notes.append(
            f"epistemic is multiplied by {options.epistemic_factor:g}, total is the sum of aleatoric and epistemic and "
            "not the entropy of the predictive mean"
        )
    return notes
