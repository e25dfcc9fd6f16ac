"""What do samples and maps add to the network? Our sliding window against nnU-Net's, on the same preprocessed image.

Both mirror along all axes; ours makes all maps, exactly and from 30 samples.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from measuring import Row, time_ratios
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from workload import workload_for, write_model_folder

from nnunet_stochastic.inference import PredictionOptions, StochasticPredictor

__all__ = ["measure"]


def measure(device: torch.device, repeats: int) -> list[Row]:
    workload = workload_for(device)
    image = torch.randn(1, *workload.grid_shape, generator=torch.Generator().manual_seed(0))
    rows = []
    with TemporaryDirectory() as temporary:
        folder = write_model_folder(Path(temporary), workload)
        theirs = nnUNetPredictor(device=device, allow_tqdm=False)
        theirs.initialize_from_trained_model_folder(str(folder), use_folds=(0,))
        for name, estimator in (("exact", "exact"), ("K = 30", "mc")):
            options = PredictionOptions(estimator=estimator, num_samples=30)
            ours = StochasticPredictor.from_model_folder(folder, folds=[0], device=device, options=options)
            times = time_ratios(
                lambda ours=ours: ours.predict_preprocessed(image),
                lambda: theirs.predict_logits_from_preprocessed_data(image),
                repeats=repeats,
                device=device,
            )
            rows.append(Row(f"sliding window, {name}", "nnUNetPredictor", "time", times, 1.1))
    return rows
