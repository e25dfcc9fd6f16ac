"""The objects that are made of a predicted case, in the order of their series, and what their series are called."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["KINDS"]

KINDS: Mapping[str, str] = {
    "segmentation": "segmentation",
    "total": "total uncertainty, nats",
    "aleatoric": "aleatoric uncertainty, nats",
    "epistemic": "epistemic uncertainty, nats",
    "variance": "predictive variance",
    "probabilities": "probabilities",
}
