"""Lesions: connected components of a structure, whether they are there, and which of them an annotator has marked.

    existence = share of N samples (or members) that have a voxel of the structure in the lesion
    share in all samples = share of the lesion's voxels that are of the structure in every sample

Lesions are the components of the segmentation; candidates those of {voxels in at least 10 % of the samples} that the
segmentation has no voxel of. Neighbours share a face, an edge or a corner (26 in 3D, 8 in 2D), by
connected-components-3d, https://github.com/seung-lab/connected-components-3d. Components below a volume do not count.
Policy: what does not exist is None: the volume in 2D, existence without samples and members, maps that are not there.
Two sets of lesions are matched one to one, by the greatest sum of IoU over pairs that share a voxel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import cc3d
import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from nnunet_stochastic.measures import MEASURES
from nnunet_stochastic.metrics import bounding_box

__all__ = ["CANDIDATE_SHARE", "LESIONS_FILE", "Lesion", "components", "find_lesions", "match_components"]

#: Table of all lesions of all cases.
LESIONS_FILE = "lesions.csv"
#: Least share of the samples that a voxel of a candidate is in.
CANDIDATE_SHARE = 0.1
# Largest table of pairs, of which most share no voxel, in which partners are sought.
_DENSE_PAIRS = 1 << 20
# Voxels that are counted at a time.
_SLAB_VOXELS = 1 << 20


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
        found = _counts(possible, mask) > 0
        found[0] = True
        numbers = np.where(found, 0, np.cumsum(~found) + num_lesions).astype(np.uint32)
        np.copyto(inside_box, numbers[possible], where=inside_box == 0)
    number_of = int(inside_box.max(initial=0))
    if not number_of:
        return [], labelled
    in_all = None if common is None else _counts(inside_box, common, number_of + 1)
    existence = np.zeros(number_of + 1)
    for sample in samples:
        existence += _counts(inside_box, sample[box], number_of + 1) > 0
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


def components(mask: np.ndarray, *, voxel_ml: float | None, min_lesion_ml: float = 0.0) -> np.ndarray:
    """Connected components of a mask (*S) of 2 or 3 axes, numbered from large to small: (*S), uint32, 0 for none.

    Parameters
    ----------
    mask
        Voxels of the structure, bool.
    voxel_ml, min_lesion_ml
        Volume of a voxel, and the volume below which a component is left out, ml.
    """
    if mask.dtype != np.bool_ or mask.ndim not in (2, 3):
        raise ValueError(f"mask must be boolean of 2 or 3 axes, got {mask.dtype} {mask.shape}")
    if not mask.any():  # cc3d takes no array without voxels
        return np.zeros(mask.shape, np.uint32)
    found = _connected(mask).reshape(mask.shape)
    count = _counts(found, mask)
    kept = count[1:] * (voxel_ml or 1.0) >= min_lesion_ml * (1 - 1e-9)
    # Of the same size, the one that comes first: whatever order the library numbers them in.
    _, size, num_equal = np.unique(count, return_inverse=True, return_counts=True)
    has_equal = num_equal[size] > 1
    has_equal[0] = False
    place = np.flatnonzero(has_equal[found])
    first = np.full(len(count), mask.size)
    np.minimum.at(first, found.ravel()[place], place)
    order = 1 + np.lexsort((first[1:], -count[1:]))
    numbers = np.zeros(len(count), np.uint32)
    order = order[kept[order - 1]]
    numbers[order] = np.arange(1, len(order) + 1)
    return numbers[found]


def _counts(numbers: np.ndarray, where: np.ndarray, num_numbers: int | None = None) -> np.ndarray:
    """How often each number from 0 on is in an array (*S), among the voxels of a mask (*S); in slabs to save memory."""
    num_numbers = int(numbers.max(initial=0)) + 1 if num_numbers is None else num_numbers
    counts = np.zeros(num_numbers, np.int64)
    size = max(1, _SLAB_VOXELS // max(1, math.prod(numbers.shape[1:])))
    for start in range(0, len(numbers), size):
        slab = slice(start, start + size)
        counts += np.bincount(numbers[slab][where[slab]], minlength=num_numbers)
    return counts


def _connected(mask: np.ndarray) -> np.ndarray:
    """Components of a mask (*S) in any order, without an axis of one voxel if it has 3 axes."""
    # cc3d expects fewer components than a slice of 3 axes, or a cube of 3 voxels a side, can have.
    if mask.ndim == 3 and 1 in mask.shape:
        mask = mask.squeeze(axis=mask.shape.index(1))
    last = mask.shape[-1]
    padded = np.pad(mask, [(0, 0), (0, 0), (0, 1)]) if mask.shape == (3, 3, 3) else mask
    found = cc3d.connected_components(padded, connectivity=26 if mask.ndim == 3 else 8)[..., :last]
    # In 2 axes it gives single voxels of the background the number of a component beside them.
    return found if mask.ndim == 3 else np.where(mask, found, 0)


def match_components(found: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of lesions, one to one.

    Parameters
    ----------
    found, reference
        Number of each voxel's lesion, (*S), integers, 0 for none.

    Returns
    -------
    tuple[np.ndarray, np.ndarray]
        Numbers of the found and of the reference lesion of each pair, (k, 2), in order of the first, and their IoU,
        (k,), in (0, 1].
    """
    if found.shape != reference.shape:
        raise ValueError(f"found {found.shape} and reference {reference.shape} must have the same shape")
    both = (found > 0) & (reference > 0)
    if not both.any():
        return np.zeros((0, 2), np.int64), np.zeros(0)
    num_found, num_reference = int(found.max()) + 1, int(reference.max()) + 1
    joint = found[both].astype(np.int64) * num_reference + reference[both]
    if num_found * num_reference <= joint.size:
        counts = np.bincount(joint)
        pair = np.flatnonzero(counts)
        shared = counts[pair]
    else:
        pair, shared = np.unique(joint, return_counts=True)
    of_found, of_reference = np.divmod(pair, num_reference)
    size_found = np.bincount(found.ravel().astype(np.int64), minlength=num_found)
    size_reference = np.bincount(reference.ravel().astype(np.int64), minlength=num_reference)
    iou = shared / (size_found[of_found] + size_reference[of_reference] - shared)
    matched = _best_pairs(of_found, of_reference, iou)
    return np.stack([of_found[matched], of_reference[matched]], axis=1), iou[matched]


def _best_pairs(one: np.ndarray, other: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Which of n different pairs (n,) have the greatest sum of gains (n,) > 0, no number used twice; bool."""
    rows, row = np.unique(one, return_inverse=True)
    columns, column = np.unique(other, return_inverse=True)
    if len(rows) * len(columns) <= _DENSE_PAIRS:
        table = np.zeros((len(rows), len(columns)))
        table[row, column] = gain
        partner = np.full(len(rows), -1)
        chosen = linear_sum_assignment(table, maximize=True)
        partner[chosen[0]] = chosen[1]
        return partner[row] == column
    # Noise has tens of thousands of components: of these the pairs that there are, alone. Every row must have a partner
    # here, so each may have a column of its own instead; 1 more for all pairs and these changes no order.
    alone = np.arange(len(rows))
    weights = csr_array(
        (
            np.concatenate([1 + gain, np.ones(len(rows))]),
            (np.concatenate([row, alone]), np.concatenate([column, len(columns) + alone])),
        )
    )
    return min_weight_full_bipartite_matching(weights, maximize=True)[1][row] == column


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
