import json

import numpy as np
import pytest
import torch

from nnunet_stochastic.inference import PredictionOptions
from nnunet_stochastic.inference.collapse import STAND_IN_NOTE
from nnunet_stochastic.inference.model import load_weights
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.inference.settings import AVERAGED, BLENDED
from nnunet_stochastic.io.result_schemas import PredictionRecord
from nnunet_stochastic.io.text import check_content
from nnunet_stochastic.training import BasisTrainer, DiagonalTrainer, LowRankTrainer
from tests.inference.predictors import PROPERTIES, blend, build, logit_law


def test_one_tile_of_one_fold_is_the_softmax_of_the_network(tmp_path, folders):
    predictor = build(folders.write_model_folder(tmp_path / "model"), mirroring=False)
    data = torch.randn(1, 16, 16, 16)
    moments = predictor.predict_preprocessed(data)
    with torch.inference_mode():
        expected = predictor.model.network(data[None])[0].softmax(0)
    torch.testing.assert_close(moments.mean, expected[1:])
    assert predictor.maps == ("total",)


def binary_entropy(p):
    return torch.special.entr(p) + torch.special.entr(1 - p)


def test_logits_of_tiles_and_mirrors_are_blended_and_probabilities_of_folds_averaged(tmp_path, folders):
    predictor = build(folders.write_model_folder(tmp_path / "model", folds=(0, 1)), folds=(0, 1))
    data = torch.randn(1, 20, 27, 16)
    members = []
    for checkpoint in predictor.model.checkpoints:
        load_weights(predictor.model, checkpoint)
        members.append(blend(predictor.model.network, data, lambda network, patch: network(patch)).softmax(0)[1])
    members = torch.stack(members)
    moments = predictor.predict_preprocessed(data)
    torch.testing.assert_close(moments.mean[0].double(), members.mean(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(moments.second_moment.double(), members.square().mean(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(moments.expected_entropy.double(), binary_entropy(members).mean(0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("folds", [(0,), (0, 1)])
@pytest.mark.parametrize("trainer", [LowRankTrainer, BasisTrainer])
def test_laws_of_tiles_and_mirrors_are_blended_and_integrated_once(tmp_path, folders, find_trainer, trainer, folds):
    """Mean and standard deviation of the logit, blended in float64, then 100 nodes of Gauss-Hermite quadrature."""
    folder = folders.write_model_folder(tmp_path / "model", folds=(0, 1), trainer=find_trainer(trainer))
    predictor = build(folder, folds=folds)
    data = torch.randn(1, 16, 20, 16)

    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    means, squares, entropies = [], [], []
    for checkpoint in predictor.model.checkpoints:
        load_weights(predictor.model, checkpoint)
        mean, std = blend(predictor.model.network, data, logit_law)
        p = [torch.sigmoid(mean + std * node) for node in nodes]
        taken = [weight * torch.stack([q, q.square(), binary_entropy(q)]) for q, weight in zip(p, weights, strict=True)]
        of_member = sum(taken) / weights.sum()
        for moment, moments in zip(of_member, (means, squares, entropies), strict=True):
            moments.append(moment)
    expected_entropy = entropies[0] if len(folds) == 1 else sum(map(binary_entropy, means)) / 2
    moments = predictor.predict_preprocessed(data)
    assert predictor.estimator == "exact"
    torch.testing.assert_close(moments.mean[0].double(), sum(means) / len(folds), atol=1e-4, rtol=0)
    torch.testing.assert_close(moments.second_moment.double(), sum(squares) / len(folds), atol=1e-4, rtol=0)
    torch.testing.assert_close(moments.expected_entropy.double(), expected_entropy, atol=1e-4, rtol=0)


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
    first, same, other = (
        build(folder, num_samples=2, estimator="mc", seed=seed).predict_preprocessed(data) for seed in (3, 3, 4)
    )
    assert torch.equal(first.mean, same.mean)
    assert torch.equal(first.second_moment, same.second_moment)
    assert not torch.allclose(first.mean, other.mean)


@pytest.mark.parametrize("estimator", ["exact", "mc", "plug_in"])
def test_mean_of_many_samples_and_of_members_in_any_order(tmp_path, folders, stochastic_trainer, estimator):
    folder = folders.write_model_folder(tmp_path / "model", folds=(0, 1), trainer=stochastic_trainer)
    data = torch.randn(1, 16, 16, 16)
    forward, backward = (
        build(folder, folds=folds, num_samples=3, estimator=estimator).predict_preprocessed(data)
        for folds in ((0, 1), (1, 0))
    )
    torch.testing.assert_close(forward.mean, backward.mean)
    torch.testing.assert_close(forward.expected_entropy, backward.expected_entropy)


@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, np.nan), (1, np.inf, 1), (1, 0, 1), (1, 1, -1), "mm", None])
def test_spacing_of_an_array(tmp_path, folders, spacing):
    predictor = build(folders.write_model_folder(tmp_path / "model"), mirroring=False)
    with pytest.raises(ValueError, match="a spacing of three positive finite numbers"):
        predictor.predict_array(np.zeros((1, 14, 16, 15), np.float32), {"spacing": spacing})


@pytest.mark.parametrize(
    ("spacing", "made"),
    [
        ((1e-3, 1e-3, 1e-3), "0 x 0 x 0 voxels on the network's grid of 1 x 1 x 1:"),
        ((0.03, 1, 1), "0 x 16 x 15 voxels"),
        ((1e30, 1, 1), r"1.4e\+31 x 16 x 15 voxels on .*, more than fit into memory"),
        ((1e4, 1e4, 1e4), "140000 x 160000 x 150000 voxels on .*, more than fit into memory"),
    ],
)
def test_spacing_in_another_unit(tmp_path, folders, spacing, made):
    predictor = build(folders.write_model_folder(tmp_path / "model"), mirroring=False)
    with pytest.raises(ValueError, match=f"the image has {made}"):
        predictor.predict_array(np.ones((1, 14, 16, 15), np.float32), {"spacing": spacing})


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


@pytest.mark.parametrize("labels", ["LABELS", "THREE_LABELS", "REGIONS"])
@pytest.mark.parametrize("tiles_and_views", ["blend", "average"])
@pytest.mark.parametrize("folds", [(0,), (0, 1)])
def test_one_logit_that_is_infinite_is_an_error(
    tmp_path, folders, stochastic_trainer, monkeypatch, labels, tiles_and_views, folds
):
    """Also where its probability is 1, and the mean over members a number."""
    predictor = build(
        folders.write_model_folder(
            tmp_path / "model", labels=getattr(folders, labels), trainer=stochastic_trainer, folds=folds
        ),
        folds=folds,
        num_samples=2,
        mirroring=False,
        tiles_and_views=tiles_and_views,
    )
    network, forward = predictor.model.network, predictor.model.network.forward
    outputs = []

    def overflow(x):
        outputs.append(forward(x))
        if len(outputs) == 1:  # of the first tile of the first member
            outputs[0][0, 1, 2, 3, 4] = torch.inf
        return outputs[-1]

    monkeypatch.setattr(network, "forward", overflow)
    with pytest.raises(ValueError, match="NaN or infinite"):
        predictor.predict_array(folders.image_array()[None], PROPERTIES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "num_samples must be at least 1"),
        ({"num_samples": 10**7}, "num_samples must be at least 1 and at most 1000000, got 10000000"),
        ({"num_samples": 2.0}, "num_samples must be .*, got 2.0"),
        ({"step_size": 0}, "step_size must be in"),
        ({"step_size": 1e-9}, "step_size must be in"),
        ({"num_members": 0}, "num_members must be at least 1"),
        ({"num_saved_samples": -1}, "num_saved_samples must be at least 0"),
        ({"aleatoric": "noise"}, "aleatoric must be one of model, tta, got 'noise'"),
        ({"estimator": "quadrature"}, "estimator must be one of auto, exact, mc, plug_in, got 'quadrature'"),
        ({"swag_scale": 0.0}, "swag_scale must be positive"),
        ({"swag_scale": float("inf")}, "swag_scale must be 1e-12 to"),
        ({"epistemic_factor": float("nan")}, "epistemic_factor must be positive"),
        ({"epistemic_factor": float("inf")}, "epistemic_factor must be positive and at most 1e12, got inf"),
        ({"maps": ("total", "entropy")}, "unknown maps entropy"),
    ],
)
def test_bad_options_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        PredictionOptions(**options)


def test_maps_that_a_model_does_not_have():
    options = PredictionOptions(maps=("variance", "total"))
    with pytest.raises(
        ValueError, match=r"has no variance map, only total; .* a fit \(nnunet_stochastic_fit_laplace\),"
    ):
        options.maps_of(num_members=1, has_samples=False)
    assert options.maps_of(num_members=2, has_samples=False) == ("total", "variance")
    assert PredictionOptions().maps_of(num_members=1, has_samples=False) == ("total",)


def test_augmented_passes_are_the_samples_of_a_deterministic_network(tmp_path, folders):
    predictor = build(folders.write_model_folder(tmp_path / "model"), aleatoric="tta", num_samples=5)
    data = torch.randn((1, 16, 16, 16), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        passes = torch.stack(
            [
                predictor.model.network(view.of(data[None]))
                .flip([axis + 2 for axis in view.flipped_axes])[0]
                .softmax(0)
                for view in predictor._samples_of_views(NoiseKey(0))
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


@pytest.mark.parametrize(
    ("labels", "trainer", "estimator"),
    [
        ("LABELS", LowRankTrainer, "exact"),
        ("REGIONS", LowRankTrainer, "exact"),
        ("THREE_LABELS", LowRankTrainer, "mc"),
        ("SIX_LABELS", LowRankTrainer, "mc"),
        ("LABELS", None, "none"),
    ],
)
def test_exact_moments_wherever_they_exist(tmp_path, folders, find_trainer, labels, trainer, estimator):
    kind = {} if trainer is None else {"trainer": find_trainer(trainer)}
    folder = folders.write_model_folder(tmp_path / "model", labels=getattr(folders, labels), patch_size=8, **kind)
    assert PredictionOptions().estimator == "auto"
    predictor = build(folder, num_samples=2, mirroring=False)
    assert predictor.settings()["estimator"] == estimator
    data = torch.randn(1, 8, 8, 8)
    found = predictor.predict_preprocessed(data)
    named = build(folder, num_samples=2, mirroring=False, estimator="mc" if estimator == "none" else estimator)
    assert torch.equal(found.mean, named.predict_preprocessed(data).mean)
    if estimator == "exact":
        sampled = build(folder, num_samples=2, mirroring=False, estimator="mc").predict_preprocessed(data)
        assert not torch.equal(found.mean, sampled.mean)


def test_how_tiles_and_views_are_put_together_is_recorded(tmp_path, folders, find_trainer):
    find_trainer(LowRankTrainer)
    few, many = (
        folders.write_model_folder(
            tmp_path / labels, labels=getattr(folders, labels), trainer=LowRankTrainer, patch_size=8, mirror_axes=(0,)
        )
        for labels in ("THREE_LABELS", "SIX_LABELS")
    )
    blended, averaged = build(few, num_samples=3).settings(), build(many, num_samples=3).settings()
    assert (blended["tiles_and_views"], averaged["tiles_and_views"]) == (BLENDED, AVERAGED)
    assert blended["views"] == {"mirrored": None, "mirrored 0": None}
    assert averaged["views"] == {"mirrored": 2, "mirrored 0": 1}
    assert "may differ from that of nnUNetv2_predict" in " ".join(averaged["notes"])
    assert "nnUNetv2_predict" not in " ".join(blended["notes"])
    plain = folders.write_model_folder(tmp_path / "plain", labels=folders.SIX_LABELS)
    assert build(plain).settings()["tiles_and_views"] == BLENDED  # a law without variance, of any number of classes
    tta = build(plain, aleatoric="tta", num_samples=10).settings()
    assert tta["tiles_and_views"] == AVERAGED
    assert sum(tta["views"].values()) == 10
    json.dumps([blended, averaged, tta])


def test_notes_say_what_the_maps_of_one_member_are(tmp_path, folders, stochastic_trainer):
    folder = folders.write_model_folder(tmp_path / "model", folds=(0, 1), trainer=stochastic_trainer)
    plain = folders.write_model_folder(tmp_path / "plain")

    def notes(folder, **options):
        return " ".join(build(folder, **options).settings()["notes"])

    assert STAND_IN_NOTE in notes(folder)
    assert STAND_IN_NOTE in notes(plain, aleatoric="tta")
    assert STAND_IN_NOTE in notes(folder, maps=("aleatoric",))
    assert STAND_IN_NOTE not in notes(folder, maps=("total", "variance"))
    assert STAND_IN_NOTE not in notes(folder, folds=(0, 1))
    assert "only the total uncertainty exists" in notes(plain)
    assert "exact moments: num_samples has no effect" in notes(folder)
    assert "they miss an outcome of a probability below 26% with more than 5%" in notes(folder, num_saved_samples=10)
    assert "whole samples" not in notes(folder, num_saved_samples=19)
    assert "sample_intervals" not in build(folder).settings()
    found = build(folder, num_saved_samples=19).settings()
    assert found["sample_intervals"]["num_samples"] == 19
    check_content("uncertainty.json", {"settings": found, "cases": {}}, PredictionRecord)
    assert "plug-in estimator" in notes(folder, estimator="plug_in")
    assert "plug-in estimator" not in notes(folder, estimator="mc")
    assert "plug-in estimator" not in notes(plain, estimator="plug_in", aleatoric="tta")


def test_whole_samples_in_the_geometry_of_the_image(tmp_path, folders, find_trainer):
    folder = folders.write_model_folder(
        tmp_path / "model", trainer=find_trainer(LowRankTrainer), labels=folders.THREE_LABELS, spacing=(1.2, 1.0, 1.0)
    )
    image = folders.image_array()[None]
    predictor = build(folder, num_samples=4, num_saved_samples=9)
    prediction = predictor.predict_array(image, PROPERTIES)
    assert len(prediction.samples) == 9
    assert all(sample.shape == image.shape[1:] and sample.max() <= 2 for sample in prediction.samples)
    varied = [
        sample.tobytes() for sample in prediction.samples if sample.any()
    ]  # noise of the whole image may empty it
    assert len(set(varied)) == len(varied) > 5
    without = build(folder, num_samples=4).predict_array(image, PROPERTIES)
    assert without.samples == ()
    np.testing.assert_array_equal(without.maps["total"], prediction.maps["total"])
    fewer = build(folder, num_samples=4, num_saved_samples=2).predict_array(image, PROPERTIES)
    for first, second in zip(fewer.samples, prediction.samples, strict=False):
        np.testing.assert_array_equal(first, second)


def test_samples_of_deterministic_members_are_their_predictions(tmp_path, folders):
    folder = folders.write_model_folder(tmp_path / "model", folds=(0, 1))
    image = folders.image_array()[None]
    both = build(folder, folds=(0, 1), num_saved_samples=2).predict_array(image, PROPERTIES)
    for fold, sample in enumerate(both.samples):
        alone = build(folder, folds=(fold,)).predict_array(image, PROPERTIES)
        np.testing.assert_array_equal(alone.segmentation, sample)
    with pytest.raises(ValueError, match="one per member, here 2:"):
        build(folder, folds=(0, 1), num_saved_samples=3)


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
