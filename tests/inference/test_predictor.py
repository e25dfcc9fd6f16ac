import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian

from nnunet_stochastic.inference import PredictionOptions, StochasticPredictor
from nnunet_stochastic.inference.model import load_weights
from nnunet_stochastic.inference.sliding_window import tiles

PROPERTIES = {"spacing": [1.0, 1.0, 1.0]}


def build(folder, *, folds=(0,), **options) -> StochasticPredictor:
    return StochasticPredictor.from_model_folder(folder, folds=folds, options=PredictionOptions(**options))


def test_one_tile_of_one_fold_is_the_softmax_of_the_network(tmp_path, folders):
    predictor = build(folders.write_model_folder(tmp_path / "model"), mirroring=False)
    data = torch.randn(1, 16, 16, 16)
    moments = predictor.predict_preprocessed(data)
    with torch.inference_mode():
        expected = predictor.model.network(data[None])[0].softmax(0)
    torch.testing.assert_close(moments.mean, expected[1:])
    assert predictor.maps == ("total",)


def test_stitching_is_the_weighted_mean_of_tiles_mirrors_and_folds(tmp_path, folders):
    predictor = build(folders.write_model_folder(tmp_path / "model", folds=(0, 1)), folds=(0, 1))
    data = torch.randn(1, 20, 27, 16)
    weights = compute_gaussian((16, 16, 16), dtype=torch.float64, device=torch.device("cpu"))
    members = []
    for member in predictor.model.members:
        load_weights(predictor.model, member)
        total, total_weight = torch.zeros(20, 27, 16, dtype=torch.float64), torch.zeros(20, 27, 16, dtype=torch.float64)
        for tile in tiles(data.shape[1:], (16, 16, 16), 0.5):
            patch = data[(slice(None), *tile)][None]
            for axes in [(), (2,), (3,), (4,), (2, 3), (2, 4), (3, 4), (2, 3, 4)]:
                with torch.no_grad():
                    logits = predictor.model.network(patch.flip(axes)).flip(axes)[0]
                total[tile] += weights * logits.double().softmax(0)[1] / 8
            total_weight[tile] += weights
        members.append(total / total_weight)
    members = torch.stack(members)
    moments = predictor.predict_preprocessed(data)
    torch.testing.assert_close(moments.mean[0].double(), members.mean(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(moments.second_moment.double(), members.square().mean(0), atol=1e-5, rtol=0)
    entropies = -(members * members.log() + (1 - members) * (1 - members).log())
    torch.testing.assert_close(moments.expected_entropy.double(), entropies.mean(0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("labels", ["LABELS", "THREE_LABELS", "REGIONS"])
def test_agrees_with_nnunet_where_nothing_is_averaged(tmp_path, folders, labels, dimension):
    folder = folders.write_model_folder(tmp_path / "model", labels=getattr(folders, labels), dimension=dimension)
    array = folders.image_array(shape=(12, 14, 13))[None]  # one tile, one view, nothing to resample
    ours = build(folder, mirroring=False).predict_array(array, PROPERTIES, probabilities=True)
    stock = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    stock.initialize_from_trained_model_folder(str(folder), (0,))
    segmentation, probabilities = stock.predict_single_npy_array(array, dict(PROPERTIES), None, None, True)
    # nnU-Net's sums and weights have half precision, which shows in the corners, where the weights are smallest.
    np.testing.assert_allclose(ours.probabilities, probabilities, atol=0.03)
    assert np.abs(ours.probabilities - probabilities).mean() < 1e-3
    assert (ours.segmentation == segmentation).mean() > 0.99


def test_all_maps_of_one_stochastic_fold(tmp_path, folders, stochastic_trainer):
    predictor = build(folders.write_model_folder(tmp_path / "model", trainer=stochastic_trainer), num_samples=4)
    prediction = predictor.predict_array(folders.image_array()[None], PROPERTIES)
    assert set(prediction.maps) == {"total", "aleatoric", "epistemic", "variance"}
    maps = prediction.maps
    np.testing.assert_allclose(maps["aleatoric"] + maps["epistemic"], maps["total"], atol=1e-6)
    assert (maps["aleatoric"] >= 0).all()
    assert maps["epistemic"].mean() > 0.01
    assert 0.01 < maps["variance"].mean() < 0.25
    assert predictor.settings()["epistemic_source"] == "aleatoric_samples"


def test_seed_decides_the_samples(tmp_path, folders, stochastic_trainer):
    folder = folders.write_model_folder(tmp_path / "model", trainer=stochastic_trainer)
    data = torch.randn(1, 16, 16, 20)
    first, same, other = (build(folder, num_samples=2, seed=seed).predict_preprocessed(data) for seed in (3, 3, 4))
    assert torch.equal(first.mean, same.mean)
    assert torch.equal(first.second_moment, same.second_moment)
    assert not torch.allclose(first.mean, other.mean)


def test_mean_of_many_samples_and_of_members_in_any_order(tmp_path, folders, stochastic_trainer):
    folder = folders.write_model_folder(tmp_path / "model", folds=(0, 1), trainer=stochastic_trainer)
    data = torch.randn(1, 16, 16, 16)
    forward = build(folder, folds=(0, 1), num_samples=3).predict_preprocessed(data)
    backward = build(folder, folds=(1, 0), num_samples=3).predict_preprocessed(data)
    torch.testing.assert_close(forward.mean, backward.mean)
    torch.testing.assert_close(forward.expected_entropy, backward.expected_entropy)


def test_cascade_takes_the_previous_segmentation(tmp_path, folders):
    folder = folders.write_model_folder(tmp_path / "model", previous_stage="3d_lowres", spacing=(1.2, 1.0, 1.0))
    predictor = build(folder, mirroring=False)
    array = folders.image_array()[None]
    with pytest.raises(ValueError, match="it needs the segmentation that 3d_lowres predicts"):
        predictor.predict_array(array, PROPERTIES)
    with pytest.raises(ValueError, match="previous stage's segmentation has shape"):
        predictor.predict_array(array, PROPERTIES, previous_stage=np.zeros((1, 2, 2, 2)))
    empty = predictor.predict_array(array, PROPERTIES, previous_stage=np.zeros_like(array))
    full = predictor.predict_array(array, PROPERTIES, previous_stage=np.ones_like(array))
    assert not np.allclose(empty.maps["total"], full.maps["total"], atol=1e-3)


def test_an_empty_image_is_predicted(tmp_path, folders):
    predictor = build(folders.write_model_folder(tmp_path / "model"))
    prediction = predictor.predict_array(np.zeros((1, 18, 18, 18), dtype=np.float32), PROPERTIES)
    assert np.isfinite(prediction.maps["total"]).all()


def test_bad_images_are_errors(tmp_path, folders):
    predictor = build(folders.write_model_folder(tmp_path / "model", channels=2))
    image = np.stack([folders.image_array(), folders.image_array(1)])
    with pytest.raises(ValueError, match="2 channels, got"):
        predictor.predict_array(image[:1], PROPERTIES)
    with pytest.raises(ValueError, match="takes no segmentation of a previous stage"):
        predictor.predict_array(image, PROPERTIES, previous_stage=image[:1])
    image[1, 2, 3, 4:6] = np.nan, np.inf
    with pytest.raises(ValueError, match="channel 0001 has 2 voxels that are NaN"):
        predictor.predict_array(image, PROPERTIES)


def test_weights_that_are_not_finite_are_an_error(tmp_path, folders):
    predictor = build(folders.write_model_folder(tmp_path / "model"), mirroring=False)
    with torch.no_grad():
        next(predictor.model.network.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match="NaN"):
        predictor.predict_array(folders.image_array()[None], PROPERTIES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "num_samples must be at least 1"),
        ({"step_size": 0}, "step_size must be in"),
        ({"maps": ("total", "entropy")}, "unknown maps entropy"),
    ],
)
def test_bad_options_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        PredictionOptions(**options)


def test_maps_that_a_model_does_not_have():
    options = PredictionOptions(maps=("variance", "total"))
    with pytest.raises(ValueError, match="has no variance map, only total"):
        options.maps_of(num_members=1, random=False)
    assert options.maps_of(num_members=2, random=False) == ("total", "variance")
    assert PredictionOptions().maps_of(num_members=1, random=False) == ("total",)
