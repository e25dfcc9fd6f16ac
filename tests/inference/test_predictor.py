import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian

from nnunet_stochastic.inference import PredictionOptions, StochasticPredictor
from nnunet_stochastic.inference.model import load_weights
from nnunet_stochastic.inference.sliding_window import tiles
from nnunet_stochastic.training import BasisTrainer, DiagonalTrainer, LowRankTrainer

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
    for checkpoint in predictor.model.checkpoints:
        load_weights(predictor.model, checkpoint)
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
    folder = folders.write_model_folder(tmp_path / "model")
    file = folder / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    next(iter(checkpoint["network_weights"].values())).fill_(torch.nan)
    torch.save(checkpoint, file)
    predictor = build(folder, mirroring=False)
    with pytest.raises(ValueError, match="NaN"):
        predictor.predict_array(folders.image_array()[None], PROPERTIES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "num_samples must be at least 1"),
        ({"step_size": 0}, "step_size must be in"),
        ({"num_members": 0}, "num_members must be at least 1"),
        ({"num_saved_samples": -1}, "num_saved_samples must be at least 0"),
        ({"aleatoric": "noise"}, "aleatoric must be one of model, tta, got 'noise'"),
        ({"estimator": "quadrature"}, "estimator must be one of mc, exact"),
        ({"swag_scale": 0.0}, "swag_scale must be positive"),
        ({"epistemic_factor": float("nan")}, "epistemic_factor must be positive"),
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


def test_augmented_passes_are_the_samples_of_a_deterministic_network(tmp_path, folders):
    predictor = build(folders.write_model_folder(tmp_path / "model"), aleatoric="tta", num_samples=5)
    data = torch.randn((1, 16, 16, 16), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        passes = torch.stack(
            [
                predictor.model.network(view.of(data[None]))
                .flip([axis + 2 for axis in view.flipped_axes])[0]
                .softmax(0)
                for view in predictor.views
            ]
        )
    moments = predictor.predict_preprocessed(data)
    foreground = passes[:, 1].double()
    torch.testing.assert_close(moments.mean[0].double(), foreground.mean(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(moments.second_moment.double(), foreground.square().mean(0), atol=1e-5, rtol=0)
    entropy = torch.special.entr(passes.double()).sum(1).mean(0)
    torch.testing.assert_close(moments.expected_entropy.double(), entropy, atol=1e-5, rtol=0)
    assert foreground.std(0).mean() > 1e-3
    settings = predictor.settings()
    assert (settings["aleatoric_source"], settings["tta_shift_sd"], settings["num_samples"]) == ("tta", 0.1, 5)


def test_augmentation_is_for_deterministic_networks(tmp_path, folders, stochastic_trainer):
    folder = folders.write_model_folder(tmp_path / "model", trainer=stochastic_trainer)
    with pytest.raises(ValueError, match="this model draws samples of its own"):
        build(folder, aleatoric="tta")


@pytest.mark.parametrize("trainer", [DiagonalTrainer, LowRankTrainer, BasisTrainer])
@pytest.mark.parametrize("labels", ["LABELS", "REGIONS"])
@pytest.mark.parametrize("folds", [(0,), (0, 1)])
def test_exact_moments_are_the_limit_of_many_samples(tmp_path, folders, find_trainer, trainer, labels, folds):
    folder = folders.write_model_folder(
        tmp_path / "model", trainer=find_trainer(trainer), labels=getattr(folders, labels), folds=folds, patch_size=8
    )
    data = torch.randn((1, 8, 8, 10), generator=torch.Generator().manual_seed(0))
    count = 400
    exact, sampled = (
        build(folder, folds=folds, estimator=estimator, num_samples=count).predict_preprocessed(data)
        for estimator in ("exact", "mc")
    )
    error = 5 * 0.5 / count**0.5  # no probability has a standard deviation above a half
    assert (exact.mean - sampled.mean).abs().max() < error
    mean_error = error / 2 if trainer is LowRankTrainer else error / 10  # its voxels err together
    for name in ("mean", "expected_entropy", "second_moment"):
        assert (getattr(exact, name) - getattr(sampled, name)).abs().mean() < mean_error
    assert not torch.equal(exact.mean, sampled.mean)
    again = build(folder, folds=folds, estimator="exact", num_samples=1, seed=7).predict_preprocessed(data)
    assert torch.equal(exact.mean, again.mean)


def test_models_without_an_exact_estimator(tmp_path, folders, find_trainer):
    with pytest.raises(ValueError, match="this network has none"):
        build(folders.write_model_folder(tmp_path / "plain"), estimator="exact")
    folder = folders.write_model_folder(
        tmp_path / "three", trainer=find_trainer(LowRankTrainer), labels=folders.THREE_LABELS
    )
    with pytest.raises(ValueError, match="for two classes and for regions, this model has 3 classes"):
        build(folder, estimator="exact")


def test_whole_samples_in_the_geometry_of_the_image(tmp_path, folders, find_trainer):
    folder = folders.write_model_folder(
        tmp_path / "model", trainer=find_trainer(LowRankTrainer), labels=folders.THREE_LABELS, spacing=(1.2, 1.0, 1.0)
    )
    image = folders.image_array()[None]
    predictor = build(folder, num_samples=4, num_saved_samples=9)
    prediction = predictor.predict_array(image, PROPERTIES)
    assert len(prediction.samples) == 9
    assert all(sample.shape == image.shape[1:] and sample.max() <= 2 for sample in prediction.samples)
    assert len({sample.tobytes() for sample in prediction.samples}) == 9
    without = build(folder, num_samples=4).predict_array(image, PROPERTIES)
    assert without.samples == ()
    np.testing.assert_array_equal(without.maps["total"], prediction.maps["total"])
    fewer = build(folder, num_samples=4, num_saved_samples=2).predict_array(image, PROPERTIES)
    for first, second in zip(fewer.samples, prediction.samples, strict=False):
        np.testing.assert_array_equal(first, second)


def test_samples_of_deterministic_members_are_their_predictions(tmp_path, folders):
    folder = folders.write_model_folder(tmp_path / "model", folds=(0, 1))
    image = folders.image_array()[None]
    both = build(folder, folds=(0, 1), mirroring=False, num_saved_samples=2).predict_array(image, PROPERTIES)
    for fold, sample in enumerate(both.samples):
        alone = build(folder, folds=(fold,), mirroring=False).predict_array(image, PROPERTIES)
        assert (alone.segmentation == sample).mean() > 0.97  # tiles are blended as logits here, as probabilities there
    with pytest.raises(ValueError, match="one per member and view, here 2 x 1"):
        build(folder, folds=(0, 1), mirroring=False, num_saved_samples=3)


def test_rescaled_epistemic_uncertainty(tmp_path, folders, stochastic_trainer):
    folder = folders.write_model_folder(tmp_path / "model", trainer=stochastic_trainer)
    image = folders.image_array()[None]
    plain = build(folder, num_samples=4).predict_array(image, PROPERTIES).maps
    scaled = build(folder, num_samples=4, epistemic_factor=7.5).predict_array(image, PROPERTIES).maps
    np.testing.assert_array_equal(scaled["aleatoric"], plain["aleatoric"])
    np.testing.assert_allclose(scaled["epistemic"], 7.5 * plain["epistemic"], rtol=1e-6)
    np.testing.assert_allclose(scaled["total"], plain["aleatoric"] + 7.5 * plain["epistemic"], rtol=1e-6)
    only = build(folder, num_samples=4, epistemic_factor=7.5, maps=("total",)).predict_array(image, PROPERTIES).maps
    np.testing.assert_array_equal(only["total"], scaled["total"])
    with pytest.raises(ValueError, match="no epistemic uncertainty that could be rescaled"):
        build(folders.write_model_folder(tmp_path / "plain"), epistemic_factor=2.0)


def test_sums_go_to_the_cpu_where_the_device_has_no_room(tmp_path, folders, stochastic_trainer, monkeypatch):
    folder = folders.write_model_folder(tmp_path / "model", trainer=stochastic_trainer)
    image = folders.image_array()[None]
    expected = build(folder, num_samples=2, num_saved_samples=2).predict_array(image, PROPERTIES)
    predictor = build(folder, num_samples=2, num_saved_samples=2)
    on_cpu, devices = predictor._predict_moments, []

    def predict(data, sums_device, *arguments):
        devices.append(sums_device.type)
        if sums_device.type == "cuda":
            raise torch.cuda.OutOfMemoryError
        predictor.device = torch.device("cpu")
        return on_cpu(data, sums_device, *arguments)

    predictor.device = torch.device("cuda")
    monkeypatch.setattr(predictor, "_predict_moments", predict)
    prediction = predictor.predict_array(image, PROPERTIES)
    assert devices == ["cuda", "cpu"]
    np.testing.assert_array_equal(prediction.maps["total"], expected.maps["total"])
    np.testing.assert_array_equal(np.stack(prediction.samples), np.stack(expected.samples))
