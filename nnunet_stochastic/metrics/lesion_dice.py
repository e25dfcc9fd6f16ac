"""Lesion-wise Dice: every lesion counts the same, whatever its size.

    lesion Dice = sum over matched pairs of 2 IoU / (1 + IoU)  /  (pairs + false positives + false negatives)

2 IoU / (1 + IoU) is the Dice of a pair; a lesion that is found in one of the two segmentations alone has 0. The pairs
are one to one and share a voxel (``decisions.components.match_components``). The mean over lesions is that of BraTS,
which matches otherwise: it takes all found components that overlap the dilated reference lesion for one.
Policy: no lesion in either -> NaN.
Reference: lesion-wise metrics of the Brain Tumor Segmentation challenges of 2023,
https://github.com/rachitsaluja/BraTS-2023-Metrics.
"""

from __future__ import annotations

import numpy as np

__all__ = ["lesion_dice"]


def lesion_dice(iou: np.ndarray, *, num_found: int, num_reference: int) -> float:
    """Lesion-wise Dice of matched lesions.

    Parameters
    ----------
    iou
        Overlap of each matched pair over its union, (k,), in (0, 1].
    num_found, num_reference
        Number of lesions found and of the reference, those of the pairs included.

    Returns
    -------
    float
        In [0, 1]; 1 is best.
    """
    iou = np.asarray(iou, dtype=np.float64)
    if iou.ndim != 1 or len(iou) > min(num_found, num_reference):
        raise ValueError(
            f"iou must be (k,), one for each pair, of at most {num_found} found and {num_reference} reference lesions, "
            f"got {iou.shape}"
        )
    # Written so that NaN, for which every comparison is false, fails.
    if not ((iou > 0) & (iou <= 1)).all():
        raise ValueError("iou must be finite and in (0, 1]; pairs that share no voxel are no pairs")
    lesions = num_found + num_reference - len(iou)
    return float(np.sum(2 * iou / (1 + iou)) / lesions) if lesions else float("nan")
