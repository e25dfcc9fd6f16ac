"""What do samples and maps add to the network? Our sliding window against nnU-Net's, on the same preprocessed image.

Both mirror along all axes; ours has 30 samples and all maps.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from measuring import Row, time_ratios
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from workload import workload_for, write_model_folder

from nnunet_stochastic.inference import StochasticPredictor

__all__ = ["measure"]


def measure(device: torch.device, repeats: int) -> list[Row]:
    workload = workload_for(device)
    image = torch.randn(1, *workload.grid_shape, generator=torch.Generator().manual_seed(0))
    with TemporaryDirectory() as temporary:
        folder = write_model_folder(Path(temporary), workload)
        ours = StochasticPredictor.from_model_folder(folder, folds=[0], device=device)
        theirs = nnUNetPredictor(device=device, allow_tqdm=False)
        theirs.initialize_from_trained_model_folder(str(folder), use_folds=(0,))
        times = time_ratios(
            lambda: ours.predict_preprocessed(image),
            lambda: theirs.predict_logits_from_preprocessed_data(image),
            repeats=repeats,
            device=device,
        )
    return [Row("sliding window", "nnUNetPredictor", "time", times, 1.1)]
