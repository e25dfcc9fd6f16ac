"""Voxels of validation cases, with all that their predictive mean needs for any temperature and prior precision.

Half of a case's points are drawn among all its annotated voxels, half among those near a border between labels, where
predictions are uncertain; weights undo the preference:

    q_n = ½ / N + ½ [n near a border] / N_border        weight of a drawn voxel ∝ 1 / q_n

Features and laws are blended over the tiles as a prediction blends logits: these are linear in the features, so W times
the blended φ̃ is the blended logit of every W.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from nnunet_stochastic.fitting.tile_features import CaseTiles
from nnunet_stochastic.seeds import stream_seed

__all__ = ["ValidationPoints", "collect_points"]

_NEAR_A_BORDER = 5  # edge of the cube in which the labels differ


@dataclass(frozen=True)
class ValidationPoints:
    """n voxels.

    Parameters
    ----------
    inputs
        φ̃, (n, F + 1), float32.
    fields
        Fields of the laws, (D + F', n), float32.
    targets
        Shares of the annotations with each class, (n, C), float32.
    weights
        Weights in a mean over voxels, (n), float32; those of a case add up to 1.
    """

    inputs: Tensor
    fields: Tensor
    targets: Tensor
    weights: Tensor

    def state(self) -> dict[str, Tensor]:
        """As plain data."""
        return dict(vars(self))

    @classmethod
    def join(cls, states: list[dict[str, Any]]) -> ValidationPoints:
        """The points of several cases, each of which counts the same."""
        inputs, targets, weights = (
            torch.cat([state[name] for state in states]) for name in ("inputs", "targets", "weights")
        )
        fields = torch.cat([state["fields"] for state in states], dim=1)
        return cls(inputs, fields, targets, weights / len(states))


def collect_points(case: CaseTiles, *, name: str, num_points: int) -> ValidationPoints | None:
    """Draw points of a case and predict them.

    Parameters
    ----------
    case
        Tiles of the case.
    name
        Name of the case, the key of its random numbers.
    num_points
        Number of points to draw, with replacement; a case of fewer annotated voxels gives each of them once.

    Returns
    -------
    ValidationPoints or None
        ``None`` where no voxel is annotated.
    """
    places, weights = _draw(case, np.random.default_rng(stream_seed("points", name)), num_points)
    if not len(places):
        return None
    index_of = torch.full(case.shape, -1, dtype=torch.long)
    index_of.view(-1)[places] = torch.arange(len(places))
    inputs: Tensor | None = None
    fields: Tensor | None = None
    for tile in case.features():
        index = index_of[tile.tile].flatten()
        here = (index >= 0).nonzero().squeeze(1)
        if not len(here):
            continue
        chosen = here.to(tile.shares.device)
        shares = tile.shares[chosen]
        some_features = (tile.inputs(chosen) * shares[:, None]).cpu()
        some_fields = (tile.fields[:, chosen] * shares).cpu()
        if inputs is None or fields is None:
            inputs = torch.ones(len(places), some_features.shape[1] + 1)
            inputs[:, :-1] = 0
            fields = torch.zeros(len(some_fields), len(places))
        inputs[:, :-1].index_add_(0, index[here], some_features)
        fields.index_add_(1, index[here], some_fields)
    assert inputs is not None, "tiles cover the image"
    assert fields is not None
    labels = case.labels.flatten(1)[:, places]
    return ValidationPoints(inputs, fields, case.targets(labels), weights)


def _draw(case: CaseTiles, generator: np.random.Generator, num_points: int) -> tuple[Tensor, Tensor]:
    """Places of different voxels in the flattened image, and their weights, which add up to 1."""
    annotated = case.annotated.numpy()
    candidates = np.flatnonzero(annotated)
    if len(candidates) <= num_points:
        return torch.from_numpy(candidates), torch.full((len(candidates),), 1 / max(1, len(candidates)))
    near = np.zeros(case.shape, bool)
    for labels in case.labels.numpy():
        near |= ndimage.maximum_filter(labels, _NEAR_A_BORDER) != ndimage.minimum_filter(labels, _NEAR_A_BORDER)
    border = np.flatnonzero(near & annotated)
    share_at_border = 0.5 if len(border) else 0.0
    density = np.full(len(candidates), (1 - share_at_border) / len(candidates))
    if len(border):
        density += share_at_border / len(border) * near.ravel()[candidates]
    num_border = round(num_points * share_at_border)
    drawn = np.concatenate(
        [generator.integers(len(candidates), size=num_points - num_border)]
        + (
            [np.searchsorted(candidates, border[generator.integers(len(border), size=num_border)])]
            if num_border
            else []
        )
    )
    chosen, counts = np.unique(drawn, return_counts=True)
    weights = counts / density[chosen]
    return torch.from_numpy(candidates[chosen]), torch.from_numpy((weights / weights.sum()).astype(np.float32))
