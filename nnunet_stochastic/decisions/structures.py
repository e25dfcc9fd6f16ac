"""What a prediction says of a structure of an image: its size, how sure its voxels are, how much its samples differ.

    V̂ = v Σ_n p_n      inside: mean of u over the segmentation's voxels      border: mean of u over its border

with v the volume of a voxel, p the predictive mean of the structure, u a map of AU, EU or TU. The border are the voxels
on both sides that share a face with one of the other side. Spread of the volume: sd (N - 1) and quantiles (linear) over
whole samples; agreement: mean Dice of pairs of samples, and of the members' segmentations.
Policy: what does not exist is None: means of no voxel, the sd of one sample, volumes of 2D images, samples or members
that are not there, the Dice of pairs that all lack the structure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage

from nnunet_stochastic.decisions.overlaps import Overlaps
from nnunet_stochastic.labels import voxels_of
from nnunet_stochastic.measures import MEASURES

__all__ = [
    "QUANTILES",
    "STRUCTURES_FILE",
    "ProbabilitySums",
    "StructureRow",
    "border",
    "bounding_boxes",
    "structure_rows",
]

#: Table of all structures of all cases.
STRUCTURES_FILE = "structures.csv"
#: Quantiles of the sampled volumes, by name.
QUANTILES = {"p5": 5, "p25": 25, "p50": 50, "p75": 75, "p95": 95}


@dataclass(frozen=True)
class ProbabilitySums:
    """What a row needs of the predictive mean of a structure.

    Attributes
    ----------
    everywhere
        Σp over the image, voxels.
    inside
        Σp over the segmentation's voxels of the structure, voxels.
    """

    everywhere: float
    inside: float

    @classmethod
    def of(cls, probability: np.ndarray, inside: np.ndarray) -> ProbabilitySums:
        """Sums of p, (*S), in [0, 1], and of where the structure is, (*S), bool."""
        if probability.shape != inside.shape:
            raise ValueError(f"p {probability.shape} and the structure {inside.shape} must have the same shape")
        return cls(float(probability.sum(dtype=np.float64)), float(probability.sum(dtype=np.float64, where=inside)))


@dataclass(frozen=True)
class StructureRow:
    """A row of structures.csv, without the case.

    Attributes
    ----------
    structure
        Name of the label or region.
    num_voxels
        Size of the segmentation, voxels.
    expected_voxels
        Σp over the image, voxels; the segmentation's size where there are no probabilities.
    volume_ml, expected_volume_ml
        The same in ml; None for 2D images.
    mean_p
        Mean p inside, in [0, 1].
    inside, border
        Mean of each map inside and on the border, nats.
    num_samples, sample_mean_ml, sample_sd_ml, sample_quantiles_ml
        Number of whole samples and the distribution of their volumes, ml.
    pairwise_dice_samples
        Mean Dice between samples, in [0, 1].
    num_members, pairwise_dice_members
        Number of members and the mean Dice between their segmentations, in [0, 1].
    """

    structure: str
    num_voxels: int
    expected_voxels: float
    volume_ml: float | None = None
    expected_volume_ml: float | None = None
    mean_p: float | None = None
    inside: Mapping[str, float | None] = field(default_factory=dict)
    border: Mapping[str, float | None] = field(default_factory=dict)
    num_samples: int = 0
    sample_mean_ml: float | None = None
    sample_sd_ml: float | None = None
    sample_quantiles_ml: Mapping[str, float] = field(default_factory=dict)
    pairwise_dice_samples: float | None = None
    num_members: int = 0
    pairwise_dice_members: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain data, of which ``StructureRow(**data)`` is the row again."""
        return asdict(self)

    @classmethod
    def columns(cls) -> list[str]:
        """Names of the columns."""
        return list(cls(structure="", num_voxels=0, expected_voxels=0).as_columns())

    def as_columns(self) -> dict[str, Any]:
        """Values of a table's row by column, always the same columns."""
        columns: dict[str, Any] = {}
        for name, value in asdict(self).items():
            if name in ("inside", "border"):
                columns |= {f"mean_{measure}_{name}": value.get(measure) for measure in MEASURES}
            elif name == "sample_quantiles_ml":
                columns |= {f"sample_{quantile}_ml": value.get(quantile) for quantile in QUANTILES}
            else:
                columns[name] = value
        return columns


def structure_rows(
    segmentation: np.ndarray,
    classes: Mapping[str, Sequence[int]],
    *,
    probabilities: Mapping[str, ProbabilitySums],
    maps: Mapping[str, np.ndarray],
    voxel_ml: float | None,
    samples: Overlaps | None = None,
    members: Overlaps | None = None,
) -> list[StructureRow]:
    """Rows of all structures of an image.

    Parameters
    ----------
    segmentation
        Label map, (*S), integers.
    classes
        The label values of each structure by name: one for a label, several for a region.
    probabilities
        Sums of the predictive mean of each structure; may be empty.
    maps
        Maps AU, EU, TU by name, as far as there are such, (*S), nats.
    voxel_ml
        Volume of a voxel in ml, None for 2D images.
    samples, members
        Overlaps of the whole samples and of the members' segmentations, structures in the order of ``classes``.
    """
    _check(segmentation, classes, probabilities, maps, samples, members)
    boxes = bounding_boxes(segmentation, classes)
    dice = {id(each): each.mean_dice() for each in (samples, members) if each is not None}
    rows = []
    for index, (name, labels) in enumerate(classes.items()):
        probability, box = probabilities.get(name), boxes[name]
        inside = voxels_of(segmentation[box], labels)
        size = int(np.count_nonzero(inside))
        expected = float(size) if probability is None else probability.everywhere
        edge = border(inside)
        rows.append(
            StructureRow(
                structure=name,
                num_voxels=size,
                expected_voxels=expected,
                volume_ml=None if voxel_ml is None else size * voxel_ml,
                expected_volume_ml=None if voxel_ml is None else expected * voxel_ml,
                mean_p=None if probability is None or not size else probability.inside / size,
                inside={measure: _mean(uncertainty[box], inside) for measure, uncertainty in maps.items()},
                border={measure: _mean(uncertainty[box], edge) for measure, uncertainty in maps.items()},
                num_samples=0 if samples is None else samples.num_maps,
                pairwise_dice_samples=None if samples is None else _known(dice[id(samples)][index]),
                num_members=0 if members is None else members.num_maps,
                pairwise_dice_members=None if members is None else _known(dice[id(members)][index]),
                **({} if samples is None or voxel_ml is None else _spread(samples.voxels[index] * voxel_ml)),
            )
        )
    return rows


def bounding_boxes(segmentation: np.ndarray, classes: Mapping[str, Sequence[int]]) -> dict[str, tuple[slice, ...]]:
    """Box of each structure of a label map (*S) with a margin of one voxel; an empty box where it is not there."""
    found = ndimage.find_objects(segmentation) if segmentation.size else []
    boxes = {}
    for name, labels in classes.items():
        parts = [found[label - 1] for label in labels if 0 < label <= len(found) and found[label - 1] is not None]
        boxes[name] = tuple(
            slice(max(0, min(part[axis].start for part in parts) - 1), max(part[axis].stop for part in parts) + 1)
            if parts
            else slice(0, 0)
            for axis in range(segmentation.ndim)
        )
    return boxes


def border(inside: np.ndarray) -> np.ndarray:
    """Which voxels of a mask (*S) share a face with one of the other side, bool."""
    edge = np.zeros(inside.shape, dtype=bool)
    for axis in range(inside.ndim):
        along, of_edge = np.moveaxis(inside, axis, 0), np.moveaxis(edge, axis, 0)
        differs = along[1:] != along[:-1]
        of_edge[1:] |= differs
        of_edge[:-1] |= differs
    return edge


def _spread(volumes: np.ndarray) -> dict[str, Any]:
    if not len(volumes):
        return {}
    return {
        "sample_mean_ml": float(volumes.mean()),
        "sample_sd_ml": float(volumes.std(ddof=1)) if len(volumes) > 1 else None,
        "sample_quantiles_ml": {name: float(np.percentile(volumes, rank)) for name, rank in QUANTILES.items()},
    }


def _mean(values: np.ndarray, where: np.ndarray) -> float | None:
    chosen = values[where]
    return float(chosen.mean(dtype=np.float64)) if chosen.size else None


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _check(
    segmentation: np.ndarray,
    classes: Mapping[str, Sequence[int]],
    probabilities: Mapping[str, ProbabilitySums],
    maps: Mapping[str, np.ndarray],
    *overlaps: Overlaps | None,
) -> None:
    if segmentation.dtype.kind not in "iu":
        raise ValueError(f"segmentation must hold integers, got {segmentation.dtype}")
    for name, array in maps.items():
        if array.shape != segmentation.shape:
            raise ValueError(f"map {name} {array.shape} and segmentation {segmentation.shape} must have the same shape")
    if unknown := sorted(set(maps) - set(MEASURES)):
        raise ValueError(f"maps must be of {', '.join(MEASURES)}, got {', '.join(unknown)}")
    if probabilities and (missing := [name for name in classes if name not in probabilities]):
        raise ValueError(f"there are no probabilities of {', '.join(missing)}, and of other structures there are")
    for each in overlaps:
        if each is not None and len(each.counts) != len(classes):
            raise ValueError(f"overlaps must be of the {len(classes)} structures, got {len(each.counts)}")
