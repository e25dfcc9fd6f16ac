"""Samples, softmax and their sums against the bytes that must move: the parameters read once, the sums written once.

30 samples of one patch, two classes, rank 16. The opponent is a copy, on the same device, of as many bytes as the
parameters and the sums have together: no implementation can be faster.
"""

from __future__ import annotations

import torch
from measuring import Row, time_ratios
from workload import workload_for

from nnunet_stochastic.distributions import BasisGaussian, LowRankGaussian
from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.sample_sums import SampleSums

__all__ = ["measure"]

CLASSES, RANK, SAMPLES, SAMPLES_AT_ONCE = 2, 16, 30, 5
NUM_SUMS = 2 * CLASSES + 1  # of probabilities and their squares, and the entropy


@torch.inference_mode()
def measure(device: torch.device, repeats: int) -> list[Row]:
    patch = workload_for(device).patch_size
    torch.manual_seed(0)
    mean = torch.randn(1, CLASSES, *patch, device=device)
    diag_var = torch.rand(1, CLASSES, *patch, device=device) + 0.05
    scale = torch.rand(1, RANK, *patch, device=device)
    factor = torch.randn(1, CLASSES, RANK, *patch, device=device)
    bases = torch.randn(1, 4, 4, 4, CLASSES, RANK, device=device)
    models = {
        "LowRank": (LowRankGaussian(mean, diag_var, factor), 2 * CLASSES + CLASSES * RANK),
        "MoB": (BasisGaussian(mean, diag_var, scale, bases), 2 * CLASSES + RANK),
    }
    space = OutcomeSpace(CLASSES)
    rows = []
    for name, (model, num_parameters) in models.items():

        def ours(model=model) -> object:
            sums = SampleSums(space, square=True, entropy=True)
            for start in range(0, SAMPLES, SAMPLES_AT_ONCE):
                for logits in model.rsample(min(SAMPLES_AT_ONCE, SAMPLES - start)):
                    sums.add(logits)
            return sums.moments()

        half = torch.empty((num_parameters + NUM_SUMS) // 2 + 1, *patch, device=device)  # a copy reads and writes
        other = torch.empty_like(half)
        ratios = time_ratios(ours, lambda half=half, other=other: other.copy_(half), repeats=repeats, device=device)
        rows.append(Row(f"{name}, {SAMPLES} samples and sums", "copy of the bytes", "time", ratios, 1.5))
    return rows
