"""Triton kernels for CUDA: chains of elementwise steps that keep what lies between them in registers.

Each module has the numbers of a function of the package in plain torch, which is used wherever ``use_kernels`` says no,
and is the oracle of its tests. Nothing here chooses an estimator or a seed: a kernel is given the same counters, nodes
and weights. Modules import Triton, so they are imported where they are used.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

from torch import Tensor
from tqdm import tqdm

__all__ = ["use_kernels"]


def use_kernels(tensor: Tensor) -> bool:
    """Whether what is computed of a tensor is computed by these kernels: on CUDA, where Triton is installed."""
    # Not of fake tensors, which have no numbers.
    return tensor.device.type == "cuda" and type(tensor) is Tensor and _triton_is_installed()


@cache
def _triton_is_installed() -> bool:
    found = find_spec("triton") is not None
    if not found:
        tqdm.write("Triton is not installed: samples and moments are computed by torch on the device, which is slower")
    return found
