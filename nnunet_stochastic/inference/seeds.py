"""Seeds that depend on what they are for, and on nothing else."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

__all__ = ["stream_generator", "stream_seed"]


def stream_seed(*key: Any) -> int:
    """A seed in [0, 2^63) that depends on the key alone, on every platform."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "big") >> 1


def stream_generator(*key: Any, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on ``device`` that is seeded with ``stream_seed``."""
    return torch.Generator(device=device).manual_seed(stream_seed(*key))
