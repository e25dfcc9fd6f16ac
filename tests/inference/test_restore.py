import json
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from nnunet_stochastic.inference import StochasticPredictor
from nnunet_stochastic.inference.restore import GridPrediction
from nnunet_stochastic.outcomes import OutcomeSpace

TRANSPOSE = (1, 2, 0)
BORDER = ((3, 2), (4, 1), (2, 5))  # zeros around the object, which nnU-Net crops
RESAMPLINGS = {
    "linear": ("resample_data_or_seg_to_shape", {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": False}),
    "nearest": ("resample_data_or_seg_to_shape", {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}),
    "torch": ("resample_torch_fornnunet", {"is_seg": False, "force_separate_z": None}),
    "cubic": ("resample_data_or_seg_to_shape", {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": False}),
}


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


def resampled_by_simpleitk(field: torch.Tensor, path, properties, *, slices: bool = False) -> np.ndarray:
    """The field on the network's grid, resampled to the image by SimpleITK in physical space, 0 outside the crop.

    Linearly, or with ``slices`` from the nearest slice along z and linearly within slices.
    """
    image = sitk.ReadImage(str(path))
    crop = [slice(*bounds) for bounds in properties["bbox_used_for_cropping"]]
    backward = [TRANSPOSE.index(axis) for axis in range(3)]
    array = field.numpy().transpose(backward)
    crop = [crop[axis] for axis in backward]  # (z, y, x), as the array
    spacing = np.array(image.GetSpacing())[::-1]
    crop_shape = np.array([c.stop - c.start for c in crop])
    if slices:
        nearest = (np.arange(crop_shape[0]) + 0.5) * array.shape[0] / crop_shape[0]
        assert (nearest % 1 != 0).all()  # none is half way between two
        array = array[nearest.astype(int)]
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


@pytest.mark.parametrize("slices", [True, False])
def test_maps_lie_where_simpleitk_puts_them(predictor, image, slices):
    predictor = predictor(resampling=RESAMPLINGS["nearest" if slices else "linear"])
    array, properties = predictor.model.plans_manager.image_reader_writer_class().read_images([str(image)])
    data, properties = predictor.preprocess(array, properties)
    resampled = partial(resampled_by_simpleitk, path=image, properties=properties, slices=slices)
    shape = tuple(data.shape[1:])
    assert shape != tuple(properties["shape_after_cropping_and_before_resampling"])
    log_ratios = 8 * smooth(shape, 0)[None] - 4
    epistemic, variance, lost = 0.1 * smooth(shape, 1), 0.25 * smooth(shape, 2), 0.02 * smooth(shape, 3)
    grid = GridPrediction(OutcomeSpace(2), log_ratios, epistemic, variance)
    prediction = predictor.restore(grid, properties, probabilities=True)

    inside = tuple(slice(low, low + size) for (low, _), size in zip(BORDER, (9, 20, 18), strict=True))
    foreground = 1 / (1 + np.exp(-resampled(log_ratios[0])))
    outside = np.ones(array.shape[1:], dtype=bool)
    outside[inside] = False
    assert outside.any()
    foreground[outside] = 0
    np.testing.assert_allclose(prediction.probabilities[1], foreground, atol=2e-5)
    np.testing.assert_allclose(prediction.probabilities.sum(0), 1, atol=1e-6)
    np.testing.assert_allclose(prediction.maps["variance"], resampled(variance), atol=2e-5)
    expected_epistemic = resampled(epistemic)
    total = -(foreground * np.log(np.maximum(foreground, 1e-12)))
    total -= (1 - foreground) * np.log(np.maximum(1 - foreground, 1e-12))
    np.testing.assert_allclose(prediction.maps["total"], total, atol=2e-4)
    np.testing.assert_allclose(prediction.maps["epistemic"], np.minimum(expected_epistemic, total), atol=2e-4)
    both = prediction.maps["aleatoric"] + prediction.maps["epistemic"]
    np.testing.assert_allclose(both, prediction.maps["total"], atol=1e-6)
    sure = np.abs(foreground - 0.5) > 1e-4
    np.testing.assert_array_equal(prediction.segmentation[sure], (foreground > 0.5)[sure])
    corrected = predictor.restore(replace(grid, lost_entropy=lost), properties).maps
    of_lost = np.where(outside, 0, resampled(lost))
    np.testing.assert_allclose(corrected["total"], np.minimum(total + of_lost, math.log(2)), atol=2e-4)
    np.testing.assert_allclose(corrected["epistemic"], np.minimum(expected_epistemic, corrected["total"]), atol=2e-4)
    both = corrected["aleatoric"] + corrected["epistemic"]
    np.testing.assert_allclose(both, corrected["total"], atol=1e-6)
    np.testing.assert_array_equal(corrected["variance"], prediction.maps["variance"])
    for values in (prediction.segmentation, *prediction.maps.values()):
        assert values[inside].any()
        assert not values[outside].any()


@pytest.mark.parametrize("resampling", RESAMPLINGS)
@pytest.mark.parametrize("labels", ["LABELS", "THREE_LABELS", "REGIONS"])
def test_segmentation_and_probabilities_are_nnunets(predictor, image, folders, labels, resampling):
    """nnU-Net's own export of the logits of which the log-ratios are, from the network's grid and from the crop's."""
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape

    predictor = predictor(labels=getattr(folders, labels), resampling=RESAMPLINGS[resampling])
    model = predictor.model
    array, properties = model.plans_manager.image_reader_writer_class().read_images([str(image)])
    data, properties = predictor.preprocess(array, properties)
    crop_shape = tuple(properties["shape_after_cropping_and_before_resampling"])
    assert tuple(data.shape[1:]) != crop_shape
    for shape in (tuple(data.shape[1:]), crop_shape):
        logits = torch.stack([8 * smooth(shape, seed) - 4 for seed in range(model.space.num_logits)])
        grid = GridPrediction(model.space, model.space.log_ratios(logits), torch.zeros(shape), torch.zeros(shape))
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
        # Splines are clipped to the range of their input, which log-ratios do not reach where a logit does.
        clipped = (np.abs(prediction.probabilities - probabilities) > 2e-6).any(0)
        assert clipped.sum() <= (3 if resampling == "cubic" and labels != "REGIONS" else 0)
        ordered = np.sort(probabilities, axis=0)
        ties = (np.abs(probabilities - 0.5) < 1e-5).any(0) if labels == "REGIONS" else ordered[-1] - ordered[-2] < 1e-5
        ties |= clipped
        np.testing.assert_array_equal(prediction.segmentation[~ties], segmentation[~ties])
        assert ties.mean() < 1e-3
        assert len(np.unique(segmentation)) == (2 if labels == "LABELS" else 3)
        assert 0 <= prediction.maps["total"].min()
        assert prediction.maps["total"].max() <= model.space.greatest_entropy + 1e-6


def test_splines_do_not_take_maps_out_of_their_range(predictor, image):
    """A spline through a map that is 0 beside a peak is below 0 there."""
    predictor = predictor(resampling=RESAMPLINGS["cubic"])
    array, properties = predictor.model.plans_manager.image_reader_writer_class().read_images([str(image)])
    data, properties = predictor.preprocess(array, properties)
    peaks = torch.zeros(data.shape[1:])
    peaks[4::8, 4::8, 4::8] = 0.5
    grid = GridPrediction(OutcomeSpace(2), torch.zeros(1, *peaks.shape), peaks, peaks, lost_entropy=peaks)
    maps = predictor.restore(grid, properties).maps
    for values in maps.values():
        assert values.min() == 0
    assert 0.2 < maps["variance"].max() <= 0.25
    np.testing.assert_allclose(maps["aleatoric"] + maps["epistemic"], maps["total"], atol=1e-6)
    assert maps["total"].max() <= math.log(2) + 1e-6


def test_total_is_at_most_log_c(predictor, image, folders):
    predictor = predictor(labels=folders.THREE_LABELS)
    array, properties = predictor.model.plans_manager.image_reader_writer_class().read_images([str(image)])
    prediction = predictor.predict_array(array, properties)
    assert 0 < prediction.maps["total"].max() <= math.log(3) + 1e-6
    assert json.dumps(sorted(prediction.maps)) == '["aleatoric", "epistemic", "total", "variance"]'
