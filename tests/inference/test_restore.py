import json
import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from nnunet_stochastic.inference import StochasticPredictor
from nnunet_stochastic.inference.restore import GridPrediction
from nnunet_stochastic.moments import OutcomeSpace

TRANSPOSE = (1, 2, 0)
BORDER = ((3, 2), (4, 1), (2, 5))  # zeros around the object, which nnU-Net crops


@pytest.fixture
def image(tmp_path, folders):
    """An anisotropic, rotated image (z, y, x) with a border of zeros."""
    array = np.pad(folders.image_array(shape=(9, 20, 18)), BORDER)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-10.0, 20.0, 30.0))
    image.SetDirection(Rotation.from_euler("xyz", [10, -20, 30], degrees=True).as_matrix().flatten())
    path = tmp_path / "case_0000.nii.gz"
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def predictor(tmp_path, folders):
    def build(**options):
        model = folders.write_model_folder(
            tmp_path / "model", folds=(0, 1), transpose=TRANSPOSE, spacing=(1.1, 1.0, 1.3), **options
        )
        return StochasticPredictor.from_model_folder(model, folds=(0, 1))

    return build


def smooth(shape, seed):
    field = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.5)
    return torch.from_numpy((field - field.min()) / np.ptp(field)).float()


def resampled_by_simpleitk(field: torch.Tensor, path, properties) -> np.ndarray:
    """The field on the network's grid, resampled to the image by SimpleITK in physical space, 0 outside the crop."""
    image = sitk.ReadImage(str(path))
    crop = [slice(*bounds) for bounds in properties["bbox_used_for_cropping"]]
    backward = [TRANSPOSE.index(axis) for axis in range(3)]
    array = field.numpy().transpose(backward)
    crop = [crop[axis] for axis in backward]  # (z, y, x), as the array
    spacing = np.array(image.GetSpacing())[::-1]
    crop_shape = np.array([c.stop - c.start for c in crop])
    grid_spacing = spacing * crop_shape / array.shape  # the outer borders of crop and grid coincide
    first_voxel = np.array([c.start for c in crop]) + (grid_spacing / spacing - 1) / 2

    grid = sitk.GetImageFromArray(array)
    grid.SetSpacing(grid_spacing[::-1].tolist())
    grid.SetDirection(image.GetDirection())
    grid.SetOrigin(image.TransformContinuousIndexToPhysicalPoint(first_voxel[::-1].tolist()))
    resampler = sitk.ResampleImageFilter()
    resampler.SetReferenceImage(image)
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.UseNearestNeighborExtrapolatorOn()
    resampled = sitk.GetArrayFromImage(resampler.Execute(grid))
    result = np.zeros_like(resampled)
    result[tuple(crop)] = resampled[tuple(crop)]
    return result


def test_maps_lie_where_simpleitk_puts_them(predictor, image):
    predictor = predictor()
    array, properties = predictor.model.plans_manager.image_reader_writer_class().read_images([str(image)])
    data, properties = predictor.preprocess(array, properties)
    shape = tuple(data.shape[1:])
    assert shape != tuple(properties["shape_after_cropping_and_before_resampling"])
    mean = smooth(shape, 0)[None]
    epistemic, variance = 0.1 * smooth(shape, 1), smooth(shape, 2)
    grid = GridPrediction(OutcomeSpace(2), mean, epistemic, variance)
    prediction = predictor.restore(grid, properties, probabilities=True)

    inside = tuple(slice(low, low + size) for (low, _), size in zip(BORDER, (9, 20, 18), strict=True))
    foreground = resampled_by_simpleitk(mean[0], image, properties)
    np.testing.assert_allclose(prediction.probabilities[1], foreground, atol=2e-5)
    np.testing.assert_allclose(prediction.probabilities.sum(0), 1, atol=1e-6)
    np.testing.assert_allclose(
        prediction.maps["variance"], resampled_by_simpleitk(variance, image, properties), atol=2e-5
    )
    expected_epistemic = resampled_by_simpleitk(epistemic, image, properties)
    total = -(foreground * np.log(np.maximum(foreground, 1e-12)))
    total -= (1 - foreground) * np.log(np.maximum(1 - foreground, 1e-12))
    np.testing.assert_allclose(prediction.maps["total"], total, atol=2e-4)
    np.testing.assert_allclose(prediction.maps["epistemic"], np.minimum(expected_epistemic, total), atol=2e-4)
    both = prediction.maps["aleatoric"] + prediction.maps["epistemic"]
    np.testing.assert_allclose(both, prediction.maps["total"], atol=1e-6)
    sure = np.abs(foreground - 0.5) > 1e-4
    np.testing.assert_array_equal(prediction.segmentation[sure], (foreground > 0.5)[sure])
    outside = np.ones(array.shape[1:], dtype=bool)
    outside[inside] = False
    assert outside.any()
    for values in (prediction.segmentation, *prediction.maps.values()):
        assert values[inside].any()
        assert not values[outside].any()


@pytest.mark.parametrize("labels", ["LABELS", "THREE_LABELS", "REGIONS"])
def test_segmentation_and_probabilities_are_nnunets(predictor, image, folders, labels):
    """nnU-Net's own export of the logarithms of the same probabilities, where it resamples nothing."""
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape

    predictor = predictor(labels=getattr(folders, labels))
    model = predictor.model
    array, properties = model.plans_manager.image_reader_writer_class().read_images([str(image)])
    _, properties = predictor.preprocess(array, properties)
    shape = tuple(properties["shape_after_cropping_and_before_resampling"])
    logits = torch.stack([8 * smooth(shape, seed) - 4 for seed in range(model.space.num_logits)])
    grid = GridPrediction(model.space, model.space.probabilities(logits), torch.zeros(shape), torch.zeros(shape))
    prediction = predictor.restore(grid, properties, probabilities=True)
    segmentation, probabilities = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits,
        model.plans_manager,
        model.configuration_manager,
        model.label_manager,
        properties,
        return_probabilities=True,
        num_threads_torch=1,
    )
    assert prediction.segmentation.dtype == segmentation.dtype
    np.testing.assert_array_equal(prediction.segmentation, segmentation)
    np.testing.assert_allclose(prediction.probabilities, probabilities, atol=1e-6)
    assert len(np.unique(segmentation)) == (2 if labels == "LABELS" else 3)


def test_total_is_at_most_log_c(predictor, image, folders):
    predictor = predictor(labels=folders.THREE_LABELS)
    array, properties = predictor.model.plans_manager.image_reader_writer_class().read_images([str(image)])
    prediction = predictor.predict_array(array, properties)
    assert 0 < prediction.maps["total"].max() <= math.log(3) + 1e-6
    assert json.dumps(sorted(prediction.maps)) == '["aleatoric", "epistemic", "total", "variance"]'
