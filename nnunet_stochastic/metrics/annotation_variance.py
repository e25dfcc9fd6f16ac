"""Variance over annotations at each voxel, what an ambiguity map should look like.

With p_c the share of the A annotations that give label c, the variances of the one-hot labels sum to

    sum_c p_c (1 - p_c) = 1 - sum_c p_c^2 = 2/A^2 sum_{i<j} 1[y_i != y_j],

the chance that two annotations drawn with replacement differ; for two labels it is twice the variance of either.
The variance of the labels' integer codes is 1/A^2 sum_{i<j} (y_i - y_j)^2. Both take A(A-1)/2 comparisons however many
labels there are. Variances are those of the population (divisor A).
Policy: one annotation has variance 0; annotations that hold no integers -> ValueError. Voxels with the ignore label are
left out before the call.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from nnunet_stochastic.metrics._checks import check_label_map

__all__ = ["annotation_variance"]


def annotation_variance(annotations: np.ndarray, *, num_labels: int, codes: bool = False) -> np.ndarray:
    """Variance over annotations.

    Parameters
    ----------
    annotations
        Label maps, (A, *S), integers in [0, num_labels).
    num_labels
        Number of label values, background included.
    codes
        Whether to take the variance of the integer codes, for which a confusion of labels 0 and 2 counts four times one
        of 0 and 1, in place of the sum over labels of the one-hot variance, which does not depend on how labels are
        numbered.

    Returns
    -------
    np.ndarray
        Variance, (*S), float32; in [0, 1 - 1/num_labels] unless ``codes``.
    """
    if len(annotations) == 0:
        raise ValueError("annotations (A, *S) holds no annotation; give at least one")
    check_label_map("annotations", annotations)
    if annotations.size and (annotations.min() < 0 or annotations.max() >= num_labels):
        raise ValueError(
            f"annotations must hold labels from 0 to {num_labels - 1}, got {annotations.min()} to "
            f"{annotations.max()}; leave voxels with the ignore label out before the call"
        )
    variance = np.zeros(annotations.shape[1:], dtype=np.float32)
    for one, other in combinations(annotations, 2):
        if codes:
            variance += np.square(np.subtract(one, other, dtype=np.float32))
        else:
            variance += one != other
    variance *= (1 if codes else 2) / len(annotations) ** 2
    return variance
