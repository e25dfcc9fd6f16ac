"""One sweep over a preprocessed case: features and laws of its tiles, each voxel with the share of its weight.

Tiles are those of a prediction, half overlapping, without mirroring. A voxel in several tiles counts once in all:

    Σ_t w_t(n) / Σ_t' w_t'(n) = 1        with nnU-Net's Gaussian weights w of the tiles
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from torch import Tensor

from nnunet_stochastic.distributions import GaussianLogits
from nnunet_stochastic.fitting.fold_cases import GridCase
from nnunet_stochastic.fitting.voxel_likelihood import targets_of_labels
from nnunet_stochastic.inference.model import Model
from nnunet_stochastic.inference.sliding_window import (
    Tile,
    predict_features,
    predict_of_features,
    sum_of_weights,
    tile_patch,
    tile_weights,
    tiles,
)
from nnunet_stochastic.inference.stitching import Stitching
from nnunet_stochastic.networks.last_layer import last_layer_weights, windows
from nnunet_stochastic.voxel_law import fields_of_law

__all__ = ["CaseTiles", "TileFeatures"]


@dataclass(frozen=True)
class TileFeatures:
    """A tile of n voxels.

    Parameters
    ----------
    tile
        Index of the tile in the padded image.
    windows
        Features in front of the last layer, around each voxel, (F, *T, *K).
    fields
        Fields of the law, (D + F', n), see ``voxel_law``.
    shares
        Share of each voxel's weight, (n), 0 where it is not annotated.
    """

    tile: Tile
    windows: Tensor
    fields: Tensor
    shares: Tensor

    def inputs(self, voxels: Tensor) -> Tensor:
        """φ of voxels, (m, F · ΠK), in the order of ``W.flatten(1)``; indices (m) in the flattened T, on its device."""
        shape = self.windows.shape[1 : 1 + len(self.tile)]
        index: tuple[slice | Tensor, ...] = (slice(None), *torch.unravel_index(voxels, shape))
        return self.windows[index].transpose(0, 1).flatten(1)


class CaseTiles:
    """The tiles of one case.

    Parameters
    ----------
    model
        Model with the trained weights, its network on ``device``.
    case
        The case.
    device
        Device on which the network runs.
    step_size
        Distance of tiles as a fraction of the patch.
    """

    def __init__(self, model: Model, case: GridCase, device: torch.device, *, step_size: float) -> None:
        self._model, self._device = model, device
        patch_size = model.configuration_manager.patch_size
        self._image, unpad = pad_nd_image(case.image, patch_size, "constant", {"value": 0}, True, None)
        self.shape: tuple[int, ...] = tuple(self._image.shape[1:])
        """Shape *S of the padded image."""
        inside = (slice(None), *unpad[1:])
        self._labels = torch.zeros((len(case.labels), *self.shape), dtype=torch.int16)
        self._labels[inside] = torch.from_numpy(case.labels)
        ignored = model.label_manager.ignore_label
        self.annotated = torch.zeros(self.shape, dtype=torch.bool)
        """Voxels of the image that every annotation has a label of, (*S)."""
        self.annotated[inside[1:]] = torch.from_numpy(
            np.ones(case.labels.shape[1:], bool) if ignored is None else (case.labels != ignored).all(0)
        )
        self._tiles = tiles(self.shape, patch_size, step_size)
        weights = tile_weights(patch_size)
        self._stitching = Stitching(weights, sum_of_weights(self._tiles, weights, self.shape))

    @property
    def labels(self) -> Tensor:
        """Label map of each annotation, (A, *S)."""
        return self._labels

    def targets(self, labels: Tensor) -> Tensor:
        """t, (n, C), of labels (A, n)."""
        manager = self._model.label_manager
        regions = manager.foreground_regions if manager.has_regions else None
        return targets_of_labels(labels, self._model.space.num_logits, regions=regions)

    def tile_labels(self, tile: Tile) -> Tensor:
        """Labels of a tile's voxels, (A, n)."""
        return self._labels[(slice(None), *tile)].flatten(1)

    def features(self) -> Iterator[TileFeatures]:
        """Run the network over the tiles."""
        network = self._model.network
        edges = last_layer_weights(network)[0].shape[2:]
        for tile in self._tiles:
            shares = torch.where(self.annotated[tile], self._stitching.shares(tile), 0.0)
            if not bool(shares.any()):
                continue
            features = predict_features(network, tile_patch(self._image, tile, self._device))
            distribution = predict_of_features(network, features)()
            assert isinstance(distribution, GaussianLogits), "other models have no known last layer"
            fields = fields_of_law(distribution, self._model.space)
            around = windows(features[0].float(), edges)
            yield TileFeatures(tile, around, fields.flatten(1), shares.flatten().to(fields.device))
