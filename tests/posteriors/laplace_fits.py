"""Last-layer posteriors of trained models, written without a fit."""

from __future__ import annotations

from nnunet_stochastic.inference.model import Checkpoint, Model
from nnunet_stochastic.io.hashing import content_sha256
from nnunet_stochastic.posteriors.laplace_fit import LaplaceFit
from nnunet_stochastic.posteriors.last_layer_curvature import LastLayerCurvature

#: What a fit by the trainer's own labels says of itself.
RECORDED = {"criterion": "nll", "fitted_against": "labels", "trained_against": "labels", "voxels": 1e6}


def write_fit(
    model: Model,
    checkpoint: Checkpoint,
    curvature: LastLayerCurvature,
    *,
    temperature: float,
    prior_precision: float,
) -> None:
    """Write ``laplace.pth`` beside a checkpoint."""
    LaplaceFit(
        curvature,
        model.space.regions,
        temperature,
        prior_precision,
        checkpoint.sha256,
        content_sha256(model.plans_manager.plans),
        **RECORDED,
    ).save(checkpoint.folder)
