"""What decided a prediction, in words and numbers, for uncertainty.json."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch

from nnunet_stochastic import __version__
from nnunet_stochastic.inference.members import EpistemicMethod, Member
from nnunet_stochastic.inference.model import Model, file_sha256
from nnunet_stochastic.inference.options import PredictionOptions
from nnunet_stochastic.inference.sliding_window import TTA_SHIFT_SD, View
from nnunet_stochastic.maps import MapName
from nnunet_stochastic.posteriors import SWAG_FILE, has_channel_dropout

__all__ = ["describe_settings"]


def describe_settings(
    model: Model,
    options: PredictionOptions,
    *,
    method: EpistemicMethod,
    members: Sequence[Member],
    views: Sequence[View],
    random: bool,
    maps: Sequence[MapName],
    device: torch.device,
) -> dict[str, Any]:
    """Settings of a prediction, JSON-serializable.

    Parameters
    ----------
    model, options
        What predicts, and how.
    method, members, views, random, maps, device
        What followed from them.
    """
    checkpoints = {
        checkpoint.name: {"file": checkpoint.path.name, "sha256": checkpoint.sha256} for checkpoint in model.checkpoints
    }
    if method in ("swag", "swag_diag"):
        for checkpoint in model.checkpoints:
            checkpoints[checkpoint.name]["swag_sha256"] = file_sha256(checkpoint.path.parent / SWAG_FILE)
    return {
        "model_folder": str(model.folder.resolve()),
        "trainer": model.trainer_name,
        "configuration": model.configuration_name,
        "checkpoints": checkpoints,
        "members": len(members),
        "num_samples": options.num_samples if random else 1,
        "seed": options.seed,
        "maps": list(maps),
        "aleatoric_source": ("tta" if options.aleatoric == "tta" else "model") if random else "none",
        "epistemic_source": _epistemic_source(method, len(members), random=random),
        "estimator": options.estimator,
        "swag_scale": members[0].scale,
        "tta_shift_sd": TTA_SHIFT_SD if options.aleatoric == "tta" else None,
        "num_saved_samples": options.num_saved_samples,
        "epistemic_factor": options.epistemic_factor,
        "step_size": options.step_size,
        "samples_per_view": {view.name: view.num_samples for view in views},
        "accumulate_on_device": options.accumulate_on_device,
        "device": device.type,
        "units": {"total": "nat", "aleatoric": "nat", "epistemic": "nat", "variance": "squared probability"},
        "notes": _notes(model, options, method, len(members), random=random),
        "versions": {
            "nnunet_stochastic": __version__,
            "nnunetv2": version("nnunetv2"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def _epistemic_source(method: EpistemicMethod, num_members: int, *, random: bool) -> str:
    if num_members > 1:
        return method
    return "aleatoric_samples" if random else "none"


def _notes(
    model: Model, options: PredictionOptions, method: EpistemicMethod, num_members: int, *, random: bool
) -> list[str]:
    notes = []
    if num_members == 1 and not random:
        notes.append("one deterministic network: only the total uncertainty exists")
    elif num_members == 1:
        notes.append("one member: its aleatoric samples stand in for the members of an ensemble")
    if not random:
        notes.append("deterministic networks: num_samples has no effect, variance is over the members")
    if method in ("none", "ensemble") and has_channel_dropout(model.network):
        notes.append("dropout is off; --epistemic dropout keeps it on and makes its masks the members")
    if options.estimator == "exact":
        notes.append("the exact estimator has no use for num_samples: maps are the limit of many samples")
    if options.epistemic_factor != 1:
        notes.append(
            f"epistemic is multiplied by {options.epistemic_factor:g}, total is the sum of aleatoric and epistemic and "
            "not the entropy of the predictive mean"
        )
    return notes
