"""The curvature of a case: added tile by tile, with what tells how far its voxels are from independent.

    g_i = Σ_n∈i w_n r_n ⊗ φ̃_n                        score of case i, with the residual r_n = E[p] - t_n
    τ   = tr G / Σ_i |g_i|²                          at most 1

Were the voxels of a case independent, |g_i|² would be Σ_n∈i tr Λ_n |φ̃_n|² on average, and τ = 1. Residuals of
neighbours agree, so that scores are longer, and τ G is the information that as many independent voxels have. It is the
adjustment of an independence likelihood of clustered data (Chandler and Bate, Inference for clustered data using the
independence loglikelihood, Biometrika 94, 2007), with the trace in the place of the matrix, which few cases do not
determine.
"""

from __future__ import annotations

import torch

from nnunet_stochastic.fitting.tile_features import CaseTiles
from nnunet_stochastic.fitting.voxel_likelihood import output_derivatives
from nnunet_stochastic.inference.seeds import stream_generator
from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.posteriors.last_layer_curvature import LastLayerCurvature

__all__ = ["CaseSums", "add_case"]

_VOXELS_AT_ONCE = 1 << 16


class CaseSums(dict[str, float]):
    """Of a case: ``voxels``, the number of annotated ones, and ``squared_score``, |g_i|²."""


def add_case(curvature: LastLayerCurvature, space: OutcomeSpace, case: CaseTiles, *, name: str) -> CaseSums:
    """Add the voxels of a case to a curvature.

    Parameters
    ----------
    curvature
        Curvature that is added to.
    space
        Meaning of the logits.
    case
        Tiles of the case.
    name
        Name of the case, the key of its random numbers.
    """
    score = torch.zeros(curvature.num_logits, curvature.num_inputs, dtype=torch.float64)
    generator = stream_generator("curvature", name)
    for tile in case.features():
        labels = case.tile_labels(tile.tile)
        for start in range(0, len(tile.shares), _VOXELS_AT_ONCE):
            part = slice(start, start + _VOXELS_AT_ONCE)
            shares = tile.shares[part]
            kept = shares.nonzero().squeeze(1)
            if not len(kept):
                continue
            fields = tile.fields[:, part].index_select(1, kept)
            features = tile.inputs(start + kept)
            inputs = torch.cat([features, features.new_ones(len(kept), 1)], dim=1)
            shares = shares.index_select(0, kept)
            probabilities, hessian = output_derivatives(space, fields, generator=generator)
            curvature.add(inputs, hessian, shares)
            residuals = probabilities - case.targets(labels[:, part][:, kept.cpu()]).to(probabilities.device)
            score += ((shares[:, None] * residuals).T @ inputs).to("cpu", torch.float64)
    if not bool(torch.isfinite(score).all()):
        raise ValueError(
            f"{name}: the network's features or logits have NaN or infinite values: are its weights finite, "
            "and the image?"
        )
    return CaseSums(voxels=float(case.annotated.sum()), squared_score=float(score.square().sum()))
