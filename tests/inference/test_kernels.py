"""Whole predictions by the kernels, which Triton's interpreter runs on the CPU: those of plain torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunet_stochastic import voxel_law
from nnunet_stochastic.distributions import logistic_normal
from nnunet_stochastic.inference import averaging, blending, voxel_noise
from nnunet_stochastic.training import BasisTrainer, LowRankTrainer
from tests.inference.predictors import PROPERTIES, build

pytest.importorskip("triton", reason="Triton is not installed")
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="with a device tests/inference/test_gpu.py has these")


class FewColumns(BasisTrainer):
    rank = 2  # six classes draw C + R numbers then, not those of a factor


@pytest.mark.parametrize("labels", ["LABELS", "THREE_LABELS", "REGIONS", "SIX_LABELS"])
@pytest.mark.parametrize("trainer", [FewColumns, LowRankTrainer])
def test_predictions_are_those_of_torch(tmp_path, folders, find_trainer, monkeypatch, trainer, labels):
    """Maps, probabilities and whole samples, of two members in mirrored views."""
    folder = folders.write_model_folder(
        tmp_path / "model",
        labels=getattr(folders, labels),
        trainer=find_trainer(trainer),
        dimension=2,
        patch_size=8,
        mirror_axes=(0, 1),
        folds=(0, 1),
    )
    image = folders.image_array(shape=(1, 8, 12))[None]
    options = {"folds": (0, 1), "num_samples": 10, "estimator": "mc", "num_saved_samples": 2}
    expected, found = [], []
    for results in (expected, found):
        for name in ("mc", "auto"):
            predictor = build(folder, **options | {"estimator": name})
            results.append(predictor.predict_array(image, PROPERTIES, probabilities=True))
        for module in (voxel_law, logistic_normal, averaging, blending, voxel_noise):
            monkeypatch.setattr(module, "use_kernels", lambda tensor: True)
    # Of many classes what the entropy lacks because samples are few is kept in eight binary digits.
    tolerance = 5e-4 if labels == "SIX_LABELS" and trainer is FewColumns else 2e-5
    for by_kernel, by_torch in zip(found, expected, strict=True):
        for name, values in by_torch.maps.items():
            np.testing.assert_allclose(by_kernel.maps[name], values, atol=tolerance, err_msg=name)
        np.testing.assert_allclose(by_kernel.probabilities, by_torch.probabilities, atol=2e-5)
        assert (np.stack(by_kernel.samples) == np.stack(by_torch.samples)).mean() > 0.999
