"""Generators of noise, seeded by what the noise is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from nnunet_stochastic.seeds import stream_seed

__all__ = ["NoiseKey", "stream_generator"]


def stream_generator(*key: Any, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on ``device`` that is seeded with ``stream_seed``."""
    return torch.Generator(device=device).manual_seed(stream_seed(*key))


@dataclass(frozen=True)
class NoiseKey:
    """What all noise of an image is a function of, besides what it is for.

    Parameters
    ----------
    seed
        Seed of the prediction.
    case
        Name of the image: with the same noise in every image, the error of a mean over images would not fall with
        their number.
    """

    seed: int
    case: str = ""

    def generator(self, *purpose: Any, device: torch.device | str = "cpu") -> torch.Generator:
        """A generator of the noise for one purpose."""
        return stream_generator(*purpose, self.seed, self.case, device=device)
