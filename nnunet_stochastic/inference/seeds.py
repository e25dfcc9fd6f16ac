"""Seeds that depend on what they are for, and on nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["NoiseKey", "stream_generator", "stream_seed"]


def stream_seed(*key: Any) -> int:
    """A seed in [0, 2^63) that depends on the key alone, on every platform."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "big") >> 1


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
