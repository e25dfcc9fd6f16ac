"""Kernels on the device where there is one, else by Triton's interpreter on the CPU (see the suite's settings)."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
