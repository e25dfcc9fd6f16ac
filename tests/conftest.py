"""Settings of the whole suite."""

from __future__ import annotations

import os

import pytest

# No test opens a window, on any machine.
os.environ.setdefault("MPLBACKEND", "Agg")
# Threads that spin while they wait take the cores from each other where several processes share them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:  # with pytest -n the cores are shared out already
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# Without a GPU kernels run in Triton's interpreter, which is chosen when Triton is first imported: by torch, for one.
if not any(map(os.path.exists, ("/proc/driver/nvidia", "/dev/nvidia0", "/dev/dxg"))):
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    of_a_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not of_a_gpu:
        return
    import torch  # not by those who test without it

    if not torch.cuda.is_available():
        for item in of_a_gpu:
            item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))
