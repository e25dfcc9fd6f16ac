"""Lesions: connected components of a structure, and whether they are there.

    existence = share of N samples (or members) that have a voxel of the structure in the lesion
    share in all samples = share of the lesion's voxels that are of the structure in every sample

Lesions are the components of the segmentation; candidates those of {voxels in at least 10 % of the samples} that the
segmentation has no voxel of. Components below a volume do not count.
Policy: what does not exist is None: the volume in 2D, existence without samples and members, maps that are not there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import cc3d
import numpy as np

from nnunet_stochastic.decisions.components import components, count_numbers
from nnunet_stochastic.measures import MEASURES
from nnunet_stochastic.metrics import bounding_box

__all__ = ["CANDIDATE_SHARE", "LESIONS_FILE", "Lesion", "find_lesions"]

#: Table of all lesions of all cases.
LESIONS_FILE = "lesions.csv"
#: Least share of the samples that a voxel of a candidate is in.
CANDIDATE_SHARE = 0.1


@dataclass(frozen=True)
class Lesion:
    """A row of lesions.csv, without the case.

    Attributes
    ----------
    structure, number
        Structure that it is a component of, and its number among these, from 1; candidates come last.
    candidate
        Whether it is of the samples alone, and the segmentation misses it.
    num_voxels, volume_ml
        Its size, voxels and ml.
    centre_mm
        Mean position of its voxels in the world coordinates of the affine, mm; of the voxels' places where there is no
        affine.
    centre_voxel
        Index of its voxel that is nearest to the mean position, in the array's order of axes.
    mean_p, max_p
        Predictive mean of the structure, in [0, 1].
    existence
        Share of the samples that have it, in [0, 1]; of the members without samples.
    share_in_all_samples
        Share of its voxels in every sample (or member), in [0, 1].
    mean
        Mean of each map, nats.
    """

    structure: str
    number: int
    candidate: bool
    num_voxels: int
    volume_ml: float | None
    centre_mm: Sequence[float]
    centre_voxel: Sequence[int]
    mean_p: float | None = None
    max_p: float | None = None
    existence: float | None = None
    share_in_all_samples: float | None = None
    mean: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain data, of which ``Lesion(**data)`` is the lesion again."""
        data = asdict(self)
        return {**data, "centre_mm": list(self.centre_mm), "centre_voxel": list(self.centre_voxel)}

    @classmethod
    def columns(cls) -> list[str]:
        """Names of the columns."""
        return list(cls("", 1, False, 0, None, (0, 0, 0), (0, 0, 0)).as_columns())

    def as_columns(self) -> dict[str, Any]:
        """Values of a table's row by column, always the same columns."""
        columns: dict[str, Any] = {}
        for name, value in asdict(self).items():
            if name == "centre_mm":
                columns |= {f"centre_{axis}_mm": value[i] for i, axis in enumerate("xyz")}
            elif name == "mean":
                columns |= {f"mean_{measure}": value.get(measure) for measure in MEASURES}
            elif name != "centre_voxel":
                columns[name] = value
        return columns


def find_lesions(
    structure: str,
    mask: np.ndarray,
    *,
    affine: np.ndarray,
    voxel_ml: float | None,
    probability: np.ndarray | None = None,
    maps: Mapping[str, np.ndarray] | None = None,
    samples: Sequence[np.ndarray] = (),
    min_lesion_ml: float = 0.0,
) -> tuple[list[Lesion], np.ndarray]:
    """Lesions and candidates of a structure of an image.

    Parameters
    ----------
    structure
        Its name.
    mask
        Voxels of the structure in the segmentation, (*S) of 2 or 3 axes, bool.
    affine
        From the index of a voxel, in the array's order of axes, to mm, (4, 4) for 3 axes (``io.grid.world_affine``).
    voxel_ml
        Volume of a voxel in ml, None for 2D images.
    probability
        Predictive mean of the structure, (*S), in [0, 1].
    maps
        Maps AU, EU, TU by name, (*S), nats.
    samples
        Voxels of the structure in each sample (or member's segmentation), N masks (*S), bool. They are gone through
        twice, one at a time: a sequence that reads one when it is asked for needs the memory of one.
    min_lesion_ml
        Volume below which a component does not count, ml; 0 for 2D images.

    Returns
    -------
    tuple[list[Lesion], np.ndarray]
        Lesions, then candidates, each from large to small, and the number of each voxel's lesion, (*S), 0 for none.
    """
    maps = maps or {}
    _check(structure, mask, affine, probability, maps, samples, voxel_ml, min_lesion_ml)
    counted = _count(mask, samples)
    box = bounding_box(mask) if counted is None else bounding_box(mask, counted > 0)
    labelled = np.zeros(mask.shape, np.uint32)
    mask, inside_box = mask[box], labelled[box]
    inside_box[...] = components(mask, voxel_ml=voxel_ml, min_lesion_ml=min_lesion_ml)
    num_lesions = int(inside_box.max(initial=0))
    common = None
    if counted is not None:
        counted = counted[box]
        common = counted == len(samples)
        possible = counted >= math.ceil(len(samples) * CANDIDATE_SHARE - 1e-9)
        possible = components(possible, voxel_ml=voxel_ml, min_lesion_ml=min_lesion_ml)
        found = count_numbers(possible, mask) > 0
        found[0] = True
        numbers = np.where(found, 0, np.cumsum(~found) + num_lesions).astype(np.uint32)
        np.copyto(inside_box, numbers[possible], where=inside_box == 0)
    number_of = int(inside_box.max(initial=0))
    if not number_of:
        return [], labelled
    in_all = None if common is None else count_numbers(inside_box, common, number_of + 1)
    existence = np.zeros(number_of + 1)
    for sample in samples:
        existence += count_numbers(inside_box, sample[box], number_of + 1) > 0
    fields = {name: values[box] for name, values in maps.items()}
    probability = None if probability is None else probability[box]
    corner = np.array([axis.start for axis in box])
    lesions = []
    for number, place in enumerate(cc3d.statistics(inside_box)["bounding_boxes"][1:], start=1):
        inside = inside_box[place] == number
        size = int(np.count_nonzero(inside))
        centre, nearest = _centre(inside, corner + [axis.start for axis in place])
        here = None if probability is None else probability[place][inside]
        lesions.append(
            Lesion(
                structure=structure,
                number=number,
                candidate=number > num_lesions,
                num_voxels=size,
                volume_ml=None if voxel_ml is None else size * voxel_ml,
                centre_mm=[float(value) for value in affine[:-1] @ [*centre, 1]],
                centre_voxel=nearest,
                mean_p=None if here is None else float(here.mean(dtype=np.float64)),
                max_p=None if here is None else float(here.max()),
                existence=float(existence[number] / len(samples)) if len(samples) else None,
                share_in_all_samples=None if in_all is None else float(in_all[number] / size),
                mean={name: float(values[place][inside].mean(dtype=np.float64)) for name, values in fields.items()},
            )
        )
    return lesions, labelled


def _centre(inside: np.ndarray, corner: np.ndarray) -> tuple[list[float], list[int]]:
    """Mean index of the voxels of a mask (*S), counted from ``corner``, and the voxel nearest to it, the first of such.

    Slice by slice, since the indices of all voxels of a large structure take ten times the memory of its maps.
    """
    indices = [start + np.arange(length) for start, length in zip(corner, inside.shape, strict=True)]
    centre, squares = [], []
    for axis, index in enumerate(indices):
        others = tuple(other for other in range(inside.ndim) if other != axis)
        number = np.count_nonzero(inside, axis=others)
        centre.append(float(number @ index / number.sum()))
        squares.append(np.square(index - centre[-1]))
    nearest: tuple[float, list[int]] = (np.inf, [])
    for first in np.argsort(squares[0], kind="stable"):
        if squares[0][first] > nearest[0]:
            break
        distance = squares[0][first] + squares[1]
        if inside.ndim == 3:
            distance = distance[:, np.newaxis] + squares[2]
        distance = np.where(inside[first], distance, np.inf)
        at = np.unravel_index(distance.argmin(), distance.shape)
        found = float(distance[at]), [int(index[i]) for index, i in zip(indices, (first, *at), strict=True)]
        nearest = min(nearest, found)
    return centre, nearest[1]


def _count(mask: np.ndarray, samples: Sequence[np.ndarray]) -> np.ndarray | None:
    """How many of the samples have each voxel, (*S); None without samples."""
    if not len(samples):
        return None
    counted = np.zeros(mask.shape, np.uint8 if len(samples) < 256 else np.uint32)
    for sample in samples:
        counted += sample.view(np.uint8)
    return counted


def _check(
    structure: str,
    mask: np.ndarray,
    affine: np.ndarray,
    probability: np.ndarray | None,
    maps: Mapping[str, np.ndarray],
    samples: Sequence[np.ndarray],
    voxel_ml: float | None,
    min_lesion_ml: float,
) -> None:
    if mask.dtype != np.bool_ or mask.ndim not in (2, 3):
        raise ValueError(f"{structure}: mask must be boolean of 2 or 3 axes, got {mask.dtype} {mask.shape}")
    if affine.shape != (4, mask.ndim + 1):
        raise ValueError(f"{structure}: affine must be (4, {mask.ndim + 1}) for {mask.ndim} axes, got {affine.shape}")
    if min_lesion_ml < 0 or (voxel_ml is None and min_lesion_ml > 0):
        raise ValueError(
            f"{structure}: min_lesion_ml must be at least 0, and 0 for 2D images, which have no volume; got "
            f"{min_lesion_ml}"
        )
    arrays = {"probability": probability, **maps, **({"sample": samples[0]} if len(samples) else {})}
    for name, array in arrays.items():
        if array is not None and array.shape != mask.shape:
            raise ValueError(f"{structure}: {name} {array.shape} and mask {mask.shape} must have the same shape")
    if len(samples) and samples[0].dtype != np.bool_:
        raise ValueError(f"{structure}: samples must be boolean, got {samples[0].dtype}")
