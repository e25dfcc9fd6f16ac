"""Keys and generators of noise, made of what the noise is for.

Generators are of the CPU, whose numbers a device is given: on CUDA the same seed gives others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from nnunet_stochastic.seeds import stream_seed

__all__ = ["NoiseKey", "stream_generator"]


def stream_generator(*key: Any) -> torch.Generator:
    """A generator that is seeded with ``stream_seed``."""
    return torch.Generator().manual_seed(stream_seed(*key))


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

    def generator(self, *purpose: Any) -> torch.Generator:
        """A generator of the noise for one purpose."""
        return stream_generator(*purpose, self.seed, self.case)

    def words(self, *purpose: Any) -> tuple[int, int]:
        """The noise for one purpose as two words, each in [0, 2^32): the key of ``philox4x32``."""
        high, low = divmod(stream_seed(*purpose, self.seed, self.case), 1 << 32)
        return low, high
