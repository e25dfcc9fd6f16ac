"""Many classes: our sliding window with all maps against nnU-Net's without any, time and memory of the device.

The same preprocessed image and MoB's network with 2, 25 and 118 classes, mirroring along all axes. nnU-Net returns the
logits of all classes on the CPU; ours leaves the mean probabilities and the moments of the maps on the device, which
also brings them into the geometry of the image.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from measuring import Row, peak_tensor_bytes, time_ratios
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from workload import workload_for, write_model_folder

from nnunet_stochastic.inference import StochasticPredictor

__all__ = ["measure"]

CLASSES = (2, 25, 118)


def measure(device: torch.device, repeats: int) -> list[Row]:
    workload = workload_for(device)
    image = torch.randn(1, *workload.grid_shape, generator=torch.Generator().manual_seed(0))
    rows = []
    for num_classes in CLASSES:
        with TemporaryDirectory() as temporary:
            folder = write_model_folder(Path(temporary), workload, num_classes=num_classes)
            predictor = nnUNetPredictor(device=device, allow_tqdm=False)
            predictor.initialize_from_trained_model_folder(str(folder), use_folds=(0,))
            stochastic = StochasticPredictor.from_model_folder(folder, folds=[0], device=device)

            def ours(predictor=stochastic) -> object:
                return predictor.predict_preprocessed(image)

            def theirs(predictor=predictor) -> object:
                return predictor.predict_logits_from_preprocessed_data(image)

            work = f"sliding window, {num_classes} classes"
            rows.append(Row(work, "nnUNetPredictor", "time", time_ratios(ours, theirs, repeats=repeats, device=device)))
            if device.type == "cuda":
                memory = peak_tensor_bytes(ours, device) / peak_tensor_bytes(theirs, device)
                rows.append(Row(work, "nnUNetPredictor", "device memory", (memory,), 1.0))
    return rows
