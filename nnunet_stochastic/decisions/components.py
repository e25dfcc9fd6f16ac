"""Connected components of a mask, numbered by size, and which of two sets of them belong together.

Neighbours share a face, an edge or a corner (26 in 3D, 8 in 2D), by connected-components-3d,
https://github.com/seung-lab/connected-components-3d. Two sets are matched one to one, by the greatest sum of IoU over
pairs that share a voxel.
"""

from __future__ import annotations

import math

import cc3d
import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

__all__ = ["components", "count_numbers", "match_components"]

# Largest table of pairs, of which most share no voxel, in which partners are sought.
_DENSE_PAIRS = 1 << 20
# Voxels that are counted at a time.
_SLAB_VOXELS = 1 << 20


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
    count = count_numbers(found, mask)
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


def count_numbers(numbers: np.ndarray, where: np.ndarray, num_numbers: int | None = None) -> np.ndarray:
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
    size_found = count_numbers(found, found > 0, num_found)
    size_reference = count_numbers(reference, reference > 0, num_reference)
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
