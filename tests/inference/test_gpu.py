"""Predictions on a CUDA device: the numbers of the CPU, and memory that does not grow."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import pytest
import torch

from nnunet_stochastic.inference import StochasticPredictor, load_model
from nnunet_stochastic.inference.restore import restore
from nnunet_stochastic.maps import epistemic_map
from nnunet_stochastic.networks.last_layer import last_layer_weights
from nnunet_stochastic.posteriors.last_layer_curvature import curvature_for
from nnunet_stochastic.training import BasisTrainer, LowRankTrainer
from tests.inference import predictors
from tests.inference.predictors import PROPERTIES, TinyProbUNet, VolumeBasis
from tests.posteriors.laplace_fits import write_fit

pytestmark = pytest.mark.gpu


@pytest.fixture
def without_autocast(monkeypatch):
    """Networks in float32 on CUDA too, without TF32."""
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **keywords: contextlib.nullcontext())
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


def build(folder, device, **options) -> StochasticPredictor:
    return predictors.build(folder, folds=(0, 1), device=device, **{"num_samples": 6, **options})


def close(on_cuda, on_cpu, atol) -> None:
    for name, values in on_cpu.maps.items():
        np.testing.assert_allclose(on_cuda.maps[name], values, atol=atol, err_msg=name)
    np.testing.assert_allclose(on_cuda.probabilities, on_cpu.probabilities, atol=atol)
    assert (on_cuda.segmentation == on_cpu.segmentation).mean() > 1 - atol


@pytest.mark.parametrize("accumulate_on_device", [True, False])
@pytest.mark.parametrize("labels", ["LABELS", "THREE_LABELS", "REGIONS"])
@pytest.mark.parametrize("trainer", [None, LowRankTrainer, BasisTrainer, VolumeBasis])
def test_laws_are_those_of_the_cpu(
    tmp_path, folders, find_trainer, without_autocast, trainer, labels, accumulate_on_device
):
    """To 1e-5 in float32, also where moments are those of a kernel: the noise of voxels is the same on all devices."""
    kind = {} if trainer is None else {"trainer": find_trainer(trainer)}
    folder = folders.write_model_folder(tmp_path / "model", labels=getattr(folders, labels), folds=(0, 1), **kind)
    image = folders.image_array()[None]
    on_cuda, on_cpu = (
        build(folder, device, accumulate_on_device=accumulate_on_device).predict_array(
            image, PROPERTIES, probabilities=True
        )
        for device in ("cuda", "cpu")
    )
    close(on_cuda, on_cpu, atol=1e-5)


@pytest.mark.parametrize("trainer", [None, LowRankTrainer, VolumeBasis])
def test_members_of_the_last_layer_are_those_of_the_cpu(tmp_path, folders, find_trainer, without_autocast, trainer):
    kind = {} if trainer is None else {"trainer": find_trainer(trainer)}
    folder = folders.write_model_folder(tmp_path / "model", labels=folders.THREE_LABELS, folds=(0, 1), **kind)
    write_fits(folder)
    image = folders.image_array()[None]
    on_cuda, on_cpu = (
        build(folder, device, epistemic="laplace", num_members=3).predict_array(image, PROPERTIES, probabilities=True)
        for device in ("cuda", "cpu")
    )
    assert on_cpu.maps["epistemic"].mean() > 1e-3
    close(on_cuda, on_cpu, atol=1e-5)


def write_fits(folder):
    """Posteriors of both folds in which all weights of the last layer vary alike."""
    model = load_model(folder, folds=(0, 1))
    weight, _ = last_layer_weights(model.network)
    curvature = curvature_for(weight.shape[0], weight.shape[1] + 1)
    for checkpoint in model.checkpoints:
        write_fit(model, checkpoint, curvature, temperature=1.0, prior_precision=10.0)


@pytest.mark.parametrize("labels", ["LABELS", "REGIONS"])
@pytest.mark.parametrize("trainer", [None, LowRankTrainer, VolumeBasis])
def test_half_precision_of_the_network_changes_little(tmp_path, folders, find_trainer, trainer, labels):
    kind = {} if trainer is None else {"trainer": find_trainer(trainer)}
    folder = folders.write_model_folder(tmp_path / "model", labels=getattr(folders, labels), folds=(0, 1), **kind)
    image = folders.image_array()[None]
    on_cuda, on_cpu = (
        build(folder, device).predict_array(image, PROPERTIES, probabilities=True) for device in ("cuda", "cpu")
    )
    close(on_cuda, on_cpu, atol=1e-2)


@pytest.mark.parametrize("spacing", [(0.8, 0.7, 1.3), (4.0, 0.6, 0.7)])
@pytest.mark.parametrize("labels", ["LABELS", "THREE_LABELS", "REGIONS"])
def test_a_prediction_is_restored_as_on_the_cpu(tmp_path, folders, labels, spacing):
    """All that is made of one prediction on the grid, linear along all axes and nearest along thick slices."""
    predictor = build(
        folders.write_model_folder(tmp_path / "model", labels=getattr(folders, labels), folds=(0, 1)), "cuda"
    )
    data, properties = predictor.preprocess(folders.image_array()[None], {"spacing": list(spacing)})
    grid = predictor.predict_grid(data)
    model = predictor.model
    managers = model.plans_manager, model.configuration_manager, model.label_manager
    on_cuda, on_cpu = (
        restore(
            grid, properties, *managers, maps=predictor.maps, probabilities=True, sums=True, device=torch.device(device)
        )
        for device in ("cuda", "cpu")
    )
    close(on_cuda, on_cpu, atol=1e-5)
    for cuda_sums, cpu_sums in zip(on_cuda.sums, on_cpu.sums, strict=True):
        assert dataclasses.astuple(cuda_sums) == pytest.approx(dataclasses.astuple(cpu_sums), rel=1e-3)


@pytest.mark.parametrize("trainer", [LowRankTrainer, BasisTrainer, TinyProbUNet])
def test_results_are_reproducible(tmp_path, folders, find_trainer, trainer):
    folder = folders.write_model_folder(tmp_path / "model", folds=(0, 1), trainer=find_trainer(trainer))
    image = folders.image_array()[None]
    first, second = (build(folder, "cuda", num_saved_samples=4).predict_array(image, PROPERTIES) for _ in range(2))
    for name, values in first.maps.items():
        np.testing.assert_allclose(second.maps[name], values, atol=1e-3)
    assert (np.stack(first.samples) == np.stack(second.samples)).mean() > 0.999
    assert len({sample.tobytes() for sample in first.samples}) > 1


@pytest.mark.parametrize("tiles_and_views", ["blend", "average"])
@pytest.mark.parametrize("trainer", [LowRankTrainer, BasisTrainer, VolumeBasis, TinyProbUNet])
def test_noise_is_that_of_the_cpu(tmp_path, folders, find_trainer, without_autocast, trainer, tiles_and_views):
    """So samples are the same segmentations, and maps of averaged probabilities are equal to rounding."""
    folder = folders.write_model_folder(tmp_path / "model", folds=(0, 1), trainer=find_trainer(trainer))
    image, options = folders.image_array()[None], {"num_saved_samples": 4, "tiles_and_views": tiles_and_views}
    on_cuda, on_cpu = (
        build(folder, device, estimator="mc", **options).predict_array(image, PROPERTIES, probabilities=True)
        for device in ("cuda", "cpu")
    )
    close(on_cuda, on_cpu, atol=1e-4)
    assert (np.stack(on_cuda.samples) == np.stack(on_cpu.samples)).mean() > 0.9999


@pytest.mark.parametrize("trainer", [LowRankTrainer, BasisTrainer, TinyProbUNet])
def test_many_classes_are_those_of_the_cpu(tmp_path, folders, find_trainer, without_autocast, trainer, monkeypatch):
    """To 2e-3: their mean is in half precision on the device. MoB's samples and their sums are a kernel there."""
    monkeypatch.setattr(BasisTrainer, "rank", 4)  # at which six classes draw C + R numbers
    folder = folders.write_model_folder(
        tmp_path / "model", labels=folders.SIX_LABELS, folds=(0, 1), trainer=find_trainer(trainer)
    )
    image = folders.image_array()[None]
    on_cuda, on_cpu = (
        build(folder, device, num_samples=30).predict_array(image, PROPERTIES, probabilities=True)
        for device in ("cuda", "cpu")
    )
    close(on_cuda, on_cpu, atol=2e-3)


@pytest.mark.parametrize("trainer", [LowRankTrainer, BasisTrainer, TinyProbUNet])
@pytest.mark.parametrize("estimator", ["mc", "plug_in"])
def test_memory_is_flat_in_samples(tmp_path, folders, find_trainer, trainer, estimator):
    folder = folders.write_model_folder(tmp_path / "model", folds=(0, 1), trainer=find_trainer(trainer), patch_size=32)
    data = torch.randn(1, 48, 48, 48)

    def peak(num_samples):
        predictor = build(folder, "cuda", num_samples=num_samples, estimator=estimator, mirroring=False)
        predictor.predict_preprocessed(data)
        torch.cuda.reset_peak_memory_stats()
        predictor.predict_preprocessed(data)
        return torch.cuda.max_memory_allocated()

    assert peak(160) < 1.05 * peak(16)


def test_a_device_without_memory_leaves_the_sums_to_the_cpu(tmp_path, folders, find_trainer, capsys):
    """The device is given room for a tile, not for the image and the sums."""
    folder = folders.write_model_folder(tmp_path / "model", folds=(0, 1), trainer=find_trainer(LowRankTrainer))
    data = torch.randn(1, 16, 16, 16)
    predictor = build(folder, "cuda", mirroring=False)
    expected = predictor.predict_preprocessed(data)
    torch.cuda.empty_cache()
    limit = torch.cuda.memory_reserved() + 256 * 2**20
    torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.get_device_properties(0).total_memory)
    try:
        large = torch.zeros(1, 300, 512, 512)
        large[:, :16, :16, :16] = data
        calls, predict = [], predictor._predict_moments

        def record(data, sums_device, *arguments):
            calls.append(sums_device.type)
            # What is on the CPU would take too long for a test: the small image, once the large one did not fit.
            return predict(data if sums_device.type == "cuda" else data[:, :16, :16, :16], sums_device, *arguments)

        predictor._predict_moments = record
        found = predictor.predict_preprocessed(large)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert calls == ["cuda", "cpu"]
    assert "do not fit into the memory of the device" in capsys.readouterr().out
    torch.testing.assert_close(found.mean, expected.mean.cpu(), atol=1e-2, rtol=0)
    assert (epistemic_map(found) - epistemic_map(expected).cpu()).abs().max() < 1e-2
