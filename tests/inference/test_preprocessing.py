"""What the network sees is what nnU-Net's own preprocessing makes of the image."""

import numpy as np
import pytest
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.preprocessing.resampling import default_resampling

from nnunet_stochastic.inference import load_model
from nnunet_stochastic.inference.preprocessing import preprocess_image

#: Name: options of the model folder, shape of the image, its spacing.
MODELS = {
    "isotropic": ({}, (20, 24, 18), (0.8, 0.7, 1.3)),
    "same grid": ({}, (20, 24, 18), (1.0, 1.0, 1.0)),
    "anisotropic image": ({}, (6, 26, 24), (4.0, 0.6, 0.7)),
    "anisotropic plan": ({"spacing": (5.0, 1.0, 1.0)}, (24, 12, 13), (2.0, 0.7, 1.3)),
    "2D": ({"dimension": 2}, (4, 22, 23), (3.0, 0.7, 1.3)),
    "transposed": ({"transpose": (2, 0, 1)}, (20, 24, 18), (0.8, 0.7, 1.3)),
    "transposed, anisotropic": ({"transpose": (2, 1, 0)}, (14, 16, 6), (0.6, 0.7, 4.0)),
    "two channels": ({"channels": 2}, (20, 24, 18), (0.8, 0.7, 1.3)),
}


def cropped_image(folders, shape, channels):
    """With zeros around it, which nnU-Net crops, and inside."""
    image = np.zeros((channels, *shape), dtype=np.float32)
    for channel in range(channels):
        image[channel, 1:, 2:-1, :-3] = folders.image_array(channel, shape)[1:, 2:-1, :-3]
    image[:, shape[0] // 2, 5:7, 5:7] = 0
    return image


def nnunets(model, image, properties, previous_stage=None):
    preprocessor = model.configuration_manager.preprocessor_class(verbose=False)
    return preprocessor.run_case_npy(
        image, previous_stage, dict(properties), model.plans_manager, model.configuration_manager, model.dataset_json
    )


def set_plan(model, **changes):
    model.configuration_manager.configuration.update(changes)


@pytest.mark.parametrize("uses_mask", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_image_and_properties_are_nnunets(tmp_path, folders, name, uses_mask):
    options, shape, spacing = MODELS[name]
    model = load_model(folders.write_model_folder(tmp_path / "model", **options), folds=(0,))
    channels = options.get("channels", 1)
    set_plan(model, use_mask_for_norm=[uses_mask] * channels)
    image, properties = cropped_image(folders, shape, channels), {"spacing": list(spacing)}
    expected, _, expected_properties = nnunets(model, image, properties)
    data, ours = preprocess_image(model, image, properties)
    assert ours == expected_properties
    assert data.shape == expected.shape
    np.testing.assert_allclose(data.numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("argument", [{"order": 1}, {"order": 3, "order_z": 1}, {"is_seg": True, "order": 1}])
def test_other_arguments_of_the_plan_are_followed(tmp_path, folders, argument):
    model = load_model(folders.write_model_folder(tmp_path / "model"), folds=(0,))
    set_plan(model, resampling_fn_data_kwargs={"is_seg": False, "order_z": 0, "force_separate_z": None, **argument})
    image, properties = cropped_image(folders, (6, 26, 24), 1), {"spacing": [4.0, 0.6, 0.7]}
    if argument.get("is_seg"):
        image = np.round(image / 100)
        set_plan(model, normalization_schemes=["NoNormalization"])
    data, _ = preprocess_image(model, image, properties)
    np.testing.assert_allclose(data.numpy(), nnunets(model, image, properties)[0], rtol=0, atol=1e-5)


def test_a_cascade_resamples_the_previous_stage_as_nnunet_does(tmp_path, folders):
    folder = folders.write_model_folder(tmp_path / "model", previous_stage="3d_lowres")
    model = load_model(folder, folds=(0,))
    image, properties = cropped_image(folders, (20, 24, 18), 1), {"spacing": [0.8, 0.7, 1.3]}
    stage = (image > 300).astype(np.float32)
    expected, segmentation, _ = nnunets(model, image, properties, stage)
    data, _ = preprocess_image(model, image, properties, previous_stage=stage)
    np.testing.assert_allclose(data[:1].numpy(), expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(data[1].numpy(), segmentation[0] == 1)
    assert 0.1 < data[1].mean() < 0.9


@pytest.fixture
def resampled(monkeypatch):
    """Whether segmentations or images were resampled by nnU-Net's function, call by call."""
    calls, function = [], default_resampling.resample_data_or_seg

    def record(data, new_shape, is_seg=False, *arguments, **keywords):
        calls.append("mask" if is_seg else "image")
        return function(data, new_shape, is_seg, *arguments, **keywords)

    monkeypatch.setattr(default_resampling, "resample_data_or_seg", record)
    return calls


def test_no_mask_is_resampled_that_nobody_reads(tmp_path, folders, resampled):
    model = load_model(folders.write_model_folder(tmp_path / "model"), folds=(0,))
    preprocess_image(model, cropped_image(folders, (20, 24, 18), 1), {"spacing": [0.8, 0.7, 1.3]})
    assert resampled == []


class OwnPreprocessor(DefaultPreprocessor):
    """Of a user's: it looks at the mask."""

    def run_case_npy(self, *arguments):
        data, mask, properties = super().run_case_npy(*arguments)
        data[0][mask[0] < 0] = -7
        return data, mask, properties


def test_a_preprocessor_of_a_users_gets_its_mask(tmp_path, folders, resampled, monkeypatch):
    model = load_model(folders.write_model_folder(tmp_path / "model"), folds=(0,))
    monkeypatch.setattr(type(model.configuration_manager), "preprocessor_class", OwnPreprocessor)
    image, properties = cropped_image(folders, (20, 24, 18), 1), {"spacing": [0.8, 0.7, 1.3]}
    image[:, -1, -4:] = 0  # a corner of the crop
    data, _ = preprocess_image(model, image, properties)
    assert resampled == ["mask"]
    expected, _, _ = nnunets(model, image, properties)
    np.testing.assert_allclose(data.numpy(), expected, rtol=0, atol=1e-6)
    assert (data == -7).any()
