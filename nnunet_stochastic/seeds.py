"""Seeds that depend on what they are for, and on nothing else."""

from __future__ import annotations

import hashlib

__all__ = ["stream_seed"]


def stream_seed(*key: object) -> int:
    """A seed in [0, 2^63) that depends on the key alone, on every platform."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "big") >> 1
