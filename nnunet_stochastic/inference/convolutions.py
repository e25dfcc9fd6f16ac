"""How convolutions are run on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["benchmarking_convolutions"]


@contextmanager
def benchmarking_convolutions(device: torch.device) -> Iterator[None]:
    """All tiles have one shape, so on CUDA the search for the fastest convolution pays; as in nnU-Net."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
