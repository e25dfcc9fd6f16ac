"""One fold of a deterministic network is what nnU-Net's own predictor makes of it."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_stochastic.inference import PredictionOptions, StochasticPredictor, predict_folder

DEFAULT = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
TORCH = ("resample_torch_fornnunet", {"is_seg": False, "force_separate_z": None, "memefficient_seg_resampling": False})
SMALL = (10, 12, 13)

# Name: labels, options of the model folder, shape of the image, its spacing.
MODELS = {
    "same grid": ("LABELS", {}, SMALL, (1.0, 1.0, 1.0)),
    "isotropic": ("THREE_LABELS", {}, SMALL, (0.8, 0.7, 1.3)),
    "anisotropic image": ("THREE_LABELS", {}, (6, 16, 14), (4.0, 0.6, 0.7)),
    "anisotropic plan": ("REGIONS", {"spacing": (5.0, 1.0, 1.0)}, (24, 12, 13), (2.0, 0.7, 1.3)),
    "torch": ("THREE_LABELS", {"resampling": TORCH}, SMALL, (0.8, 0.7, 1.3)),
    "torch, anisotropic": ("LABELS", {"resampling": TORCH}, (6, 16, 14), (4.0, 0.6, 0.7)),
    "2D": ("THREE_LABELS", {"dimension": 2}, (4, 12, 13), (3.0, 0.7, 1.3)),
    "regions": ("REGIONS", {}, SMALL, (0.8, 0.7, 1.3)),
    "many classes": ("EIGHT_LABELS", {}, SMALL, (0.8, 0.7, 1.3)),
    "transposed": ("THREE_LABELS", {"transpose": (2, 0, 1)}, SMALL, (0.8, 0.7, 1.3)),
    "transposed, anisotropic": ("LABELS", {"transpose": (2, 1, 0)}, (14, 16, 6), (0.6, 0.7, 4.0)),
    "linear along thick slices": (
        "LABELS",
        {"resampling": ("resample_data_or_seg_to_shape", {**DEFAULT, "order_z": 1})},
        (6, 16, 14),
        (4.0, 0.6, 0.7),
    ),
    "cubic": (
        "REGIONS",
        {"resampling": ("resample_data_or_seg_to_shape", {**DEFAULT, "order": 3})},
        SMALL,
        (0.8, 0.7, 1.3),
    ),
    "no resampling": ("THREE_LABELS", {"resampling": ("no_resampling_hack", {})}, SMALL, (1.0, 1.0, 1.0)),
}


def write_model(folders, folder, name):
    labels, options, _, _ = MODELS[name]
    return folders.write_model_folder(folder, labels=getattr(folders, labels), patch_size=8, **options)


def stock_predictor(folder, *, mirroring: bool) -> nnUNetPredictor:
    predictor = nnUNetPredictor(use_mirroring=mirroring, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), (0,))
    return predictor


def stock_prediction(folder, array, properties, *, mirroring: bool):
    """Segmentation and probabilities."""
    predictor = stock_predictor(folder, mirroring=mirroring)
    return predictor.predict_single_npy_array(array, dict(properties), None, None, True)


@pytest.fixture
def sums_in_float32(monkeypatch):
    """Lets nnU-Net keep its sums over tiles in single precision while a function runs."""

    def run(function, *arguments, **keywords):
        with monkeypatch.context() as patch:
            patch.setattr(torch, "half", torch.float32)
            return function(*arguments, **keywords)

    return run


@pytest.mark.parametrize("name", MODELS)
def test_every_voxel_is_stocks(tmp_path, folders, sums_in_float32, name):
    """In all classes, but for the half precision of stock's sums; with it nearly all voxels have the same label."""
    folder = write_model(folders, tmp_path / "model", name)
    _, _, shape, spacing = MODELS[name]
    properties = {"spacing": list(spacing)}
    array = folders.image_array(1, shape)
    array[:1], array[-2:], array[:, :, -1:] = 0, 0, 0  # which nnU-Net crops
    probabilities = []
    for mirroring in (False, True):
        options = PredictionOptions(mirroring=mirroring)
        predictor = StochasticPredictor.from_model_folder(folder, folds=(0,), options=options)
        ours = predictor.predict_array(array[None], properties, probabilities=True)
        arguments = (folder, array[None], properties)
        _, expected = sums_in_float32(stock_prediction, *arguments, mirroring=mirroring)
        np.testing.assert_allclose(ours.probabilities, expected, atol=1e-5, rtol=0)
        probabilities.append(ours.probabilities)
        segmentation, _ = stock_prediction(*arguments, mirroring=mirroring)
        assert ours.segmentation.dtype == segmentation.dtype
        assert (ours.segmentation == segmentation).mean() >= 0.995
        assert len(np.unique(segmentation)) > 1
    assert np.abs(probabilities[0] - probabilities[1]).max() > 0.01


def test_splines_of_exclusive_classes_are_stocks_but_where_they_are_clipped(tmp_path, folders, sums_in_float32):
    """The function clips each logit to its range in the image, which differences of logits do not know."""
    resampling = ("resample_data_or_seg_to_shape", {**DEFAULT, "order": 3})
    folder = folders.write_model_folder(
        tmp_path / "model", labels=folders.THREE_LABELS, patch_size=8, resampling=resampling
    )
    arguments = (folders.image_array(1, SMALL)[None], {"spacing": [0.8, 0.7, 1.3]})
    predictor = StochasticPredictor.from_model_folder(folder, folds=(0,), options=PredictionOptions(mirroring=False))
    ours = predictor.predict_array(*arguments, probabilities=True)
    segmentation, expected = sums_in_float32(stock_prediction, folder, *arguments, mirroring=False)
    equal = np.isclose(ours.probabilities, expected, atol=1e-5, rtol=0).all(0)
    assert equal.mean() > 0.95
    assert (ours.segmentation == segmentation).mean() >= 0.995


@pytest.mark.parametrize("name", ["isotropic", "anisotropic image", "regions"])
def test_files_are_stocks(tmp_path, folders, sums_in_float32, name):
    folder = write_model(folders, tmp_path / "model", name)
    _, _, shape, spacing = MODELS[name]
    image = folders.write_image(
        tmp_path / "images" / "case_0000.nii.gz", folders.image_array(1, shape), spacing=spacing[::-1]
    )
    predictor = StochasticPredictor.from_model_folder(folder, folds=(0,))
    report = predict_folder(
        predictor, tmp_path / "images", tmp_path / "ours", save_probabilities=True, preprocessing_threads=0
    )
    assert report.failures == {}
    stock = stock_predictor(folder, mirroring=True)
    (tmp_path / "stock").mkdir()
    sums_in_float32(
        stock.predict_from_files_sequential, [[str(image)]], [str(tmp_path / "stock" / "case")], save_probabilities=True
    )
    ours, expected = (np.load(tmp_path / name / "case.npz")["probabilities"] for name in ("ours", "stock"))
    np.testing.assert_allclose(ours, expected, atol=1e-5, rtol=0)
    ours, expected = (nibabel.load(tmp_path / name / "case.nii.gz") for name in ("ours", "stock"))
    np.testing.assert_allclose(ours.affine, expected.affine)
    assert ours.get_data_dtype() == expected.get_data_dtype()
    assert (ours.get_fdata() == expected.get_fdata()).mean() >= 0.999
    assert expected.get_fdata().any()
