"""A posterior over the last layer alone: one forward pass for all members, and the same prediction as with one each."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_stochastic import epistemic
from nnunet_stochastic.epistemic import NUM_MEMBERS, EpistemicMethod
from nnunet_stochastic.inference import PredictionOptions, StochasticPredictor, members, sweep
from nnunet_stochastic.networks.last_layer import distribution_of_features, features_of, last_layer
from nnunet_stochastic.posteriors import LastLayerPosterior, WeightPosterior
from tests.inference.predictors import TinySoftmax, TinySSN

PROPERTIES = {"spacing": [1.0, 1.0, 1.0]}


class MovedLastLayer(LastLayerPosterior):
    """The trained weights of the last layer plus noise."""

    def __init__(self, method, fold_folder, options):
        super().__init__(method, fold_folder, options)
        self.trained, self.drawn = None, {}

    @classmethod
    def missing(cls, method, fold_folder, network):
        return None

    def activate(self, network, generator):
        weight = last_layer(network).weight.data
        if self.trained is None:
            self.trained = weight.clone()
        key = generator.initial_seed()
        if key not in self.drawn:
            self.drawn[key] = self.trained + 0.1 * torch.randn(weight.shape, generator=generator)
        weight.copy_(self.drawn[key])

    def deactivate(self, network):
        last_layer(network).weight.data.copy_(self.trained)


class MovedNetwork(WeightPosterior):
    """The same weights, as networks of their own."""

    changes_weights = True
    missing = MovedLastLayer.missing

    def activate(self, network, generator):
        weight = last_layer(network).weight.data
        weight += 0.1 * torch.randn(weight.shape, generator=generator)


@pytest.fixture
def add_method(monkeypatch):
    """Adds a posterior to the catalogue under the name ``moved``."""

    def add(posterior):
        monkeypatch.setitem(sys.modules, "posterior_of_a_test", SimpleNamespace(Posterior=posterior))
        method = EpistemicMethod(
            "moved",
            "Moved",
            "draws",
            "posterior_of_a_test:Posterior",
            table_row=9,
            options=(NUM_MEMBERS,),
        )
        monkeypatch.setattr(members, "EPISTEMIC_METHODS", {**epistemic.EPISTEMIC_METHODS, "moved": method})

    return add


@pytest.mark.parametrize(
    "trainer", ["nnUNetTrainer", "nnUNetTrainerMoBVolume", "nnUNetTrainerLowRank", TinySoftmax, TinySSN]
)
def test_one_forward_pass_serves_all_members(tmp_path, folders, add_method, find_trainer, trainer):
    planned = isinstance(trainer, str)
    trainer = recursive_find_trainer_class_by_name(trainer) if planned else find_trainer(trainer)
    size = {} if planned else {"dimension": 2, "patch_size": 8, "mirror_axes": (0,)}
    folder = folders.write_model_folder(tmp_path / "model", trainer=trainer, folds=(0, 1), **size)
    image, predictions, passes = folders.image_array()[None], [], []
    if not planned:
        image = image[:, :2, :12, :12]  # attention is slow
    for posterior in (MovedLastLayer, MovedNetwork):
        add_method(posterior)
        options = PredictionOptions(epistemic="moved", num_members=3, num_saved_samples=6, num_samples=4)
        predictor = StochasticPredictor.from_model_folder(folder, folds=(0, 1), options=options)
        count = 0

        def counting(*_):
            nonlocal count
            count += 1

        network = predictor.model.network
        (network.encoder if planned else network.unet).register_forward_hook(counting)
        predictions.append(predictor.predict_array(image, PROPERTIES))
        passes.append(count)
    assert passes[1] == 3 * passes[0]
    shared, own = predictions
    assert own.maps["epistemic"].mean() > 1e-3
    for name, expected in own.maps.items():
        np.testing.assert_allclose(shared.maps[name], expected, atol=2e-6, err_msg=name)
    for sample, expected in zip(shared.samples, own.samples, strict=True):
        np.testing.assert_array_equal(sample, expected)


def test_members_that_memory_has_no_room_for_take_another_pass(tmp_path, folders, add_method, monkeypatch):
    folder = folders.write_model_folder(tmp_path / "plain")
    image, predictions, passes = folders.image_array()[None], [], []
    add_method(MovedLastLayer)
    for members_together in (5, 2, 0):
        options = PredictionOptions(epistemic="moved", num_members=5, mirroring=False, num_saved_samples=5)
        predictor = StochasticPredictor.from_model_folder(folder, folds=(0,), options=options)
        monkeypatch.setattr(sweep, "_TOGETHER_BYTES", members_together * 4 * image.size)
        count = []
        predictor.model.network.encoder.register_forward_hook(lambda *_, count=count: count.append(1))
        predictions.append(predictor.predict_array(image, PROPERTIES))
        passes.append(len(count))
    assert passes == [passes[0], 3 * passes[0], 5 * passes[0]]
    for prediction in predictions[1:]:
        for name, expected in predictions[0].maps.items():
            np.testing.assert_array_equal(prediction.maps[name], expected, err_msg=name)
        for sample, expected in zip(prediction.samples, predictions[0].samples, strict=True):
            np.testing.assert_array_equal(sample, expected)


def test_other_members_of_the_model_have_the_trained_last_layer(tmp_path, folders, add_method):
    folder = folders.write_model_folder(tmp_path / "plain")
    image = folders.image_array()[None]
    plain = StochasticPredictor.from_model_folder(folder, folds=(0,), options=PredictionOptions(mirroring=False))
    before = plain.predict_array(image, PROPERTIES).maps["total"]
    add_method(MovedLastLayer)
    options = PredictionOptions(epistemic="moved", num_members=2, mirroring=False)
    moved = StochasticPredictor(plain.model, options=options).predict_array(image, PROPERTIES).maps["total"]
    assert np.abs(moved - before).max() > 1e-3
    np.testing.assert_array_equal(plain.predict_array(image, PROPERTIES).maps["total"], before)


def test_a_posterior_is_asked_whether_it_is_of_the_model(tmp_path, folders, add_method):
    """With the hashes that the settings of a prediction hold."""
    folder, asked = folders.write_model_folder(tmp_path / "plain", folds=(0, 1)), []

    class Fitted(MovedLastLayer):
        def require_origin(self, checkpoint, **hashes):
            asked.append((checkpoint, hashes))

    add_method(Fitted)
    options = PredictionOptions(epistemic="moved", num_members=2)
    settings = StochasticPredictor.from_model_folder(folder, folds=(0, 1), options=options).settings()
    for (checkpoint, hashes), fold in zip(asked, ("fold_0", "fold_1"), strict=True):
        assert checkpoint == folder / fold / settings["checkpoints"][fold]["file"]
        assert hashes == {
            "checkpoint_sha256": settings["checkpoints"][fold]["sha256"],
            "plans_sha256": settings["plans_sha256"],
        }


@pytest.mark.parametrize("trainer", ["nnUNetTrainer", "nnUNetTrainerMoB", "nnUNetTrainerLowRank"])
def test_the_two_halves_are_the_network(tmp_path, folders, trainer):
    folder = folders.write_model_folder(tmp_path / trainer, trainer=recursive_find_trainer_class_by_name(trainer))
    network = StochasticPredictor.from_model_folder(folder, folds=(0,)).model.network
    x = torch.randn((2, 1, 16, 16, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        distribution = distribution_of_features(network, features_of(network, x))
        assert torch.equal(distribution.mean_logits, network(x))
        if distribution.has_samples:
            expected = network.logit_distribution(x)
            assert torch.equal(distribution.voxel_covariance(), expected.voxel_covariance())


def test_a_network_without_known_last_layer_is_refused():
    with pytest.raises(ValueError, match="Linear has no decoder with seg_layers"):
        last_layer(torch.nn.Linear(1, 1))
