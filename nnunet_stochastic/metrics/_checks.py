"""Shape and range rules shared by the metrics of probabilities."""

from __future__ import annotations

import numpy as np

__all__: list[str] = []


def check_label_map(name: str, label_map: np.ndarray) -> None:
    """Require integers or booleans: NaN, which belongs to no class, would be counted as background."""
    if label_map.dtype.kind not in "iub":
        raise ValueError(f"{name} must hold integers, got {label_map.dtype}")


def check_labels(probabilities: np.ndarray, label: np.ndarray) -> None:
    """Require (C, *S) probabilities in [0, 1] and a (*S) map of integer labels in [0, C)."""
    if probabilities.shape[1:] != label.shape:
        raise ValueError(
            f"probabilities (C, *S) and label (*S) must agree in *S, got {probabilities.shape} and {label.shape}"
        )
    check_probability(probabilities)
    check_label_map("label", label)
    num_classes = len(probabilities)
    if label.size and (label.min() < 0 or label.max() >= num_classes):
        raise ValueError(
            f"label must be in [0, {num_classes}) for {num_classes} classes, got {label.min()} to {label.max()}; "
            "leave voxels with the ignore label out before the call"
        )


def check_binary(probability: np.ndarray, target: np.ndarray) -> None:
    """Require probabilities in [0, 1] and a boolean target of the same shape."""
    if probability.shape != target.shape:
        raise ValueError(f"probability {probability.shape} and target {target.shape} must have the same shape")
    if target.dtype != np.bool_:
        raise ValueError(f"target must be boolean, got {target.dtype}")
    check_probability(probability)


def check_probability(probability: np.ndarray) -> None:
    """Require finite values in [0, 1], with 1e-5 for rounding."""
    # Written so that NaN, for which every comparison is false, fails.
    if probability.size and not (probability.min() >= -1e-5 and probability.max() <= 1 + 1e-5):
        raise ValueError(
            f"probabilities must be in [0, 1] and finite, got values from {probability.min()} to {probability.max()}"
        )
