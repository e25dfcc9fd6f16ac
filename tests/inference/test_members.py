import copy
import gc
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nnunet_stochastic.epistemic import EPISTEMIC_METHODS
from nnunet_stochastic.inference import PredictionOptions, StochasticPredictor, load_model, members
from nnunet_stochastic.inference.members import check_members_differ, choose_method, members_of
from nnunet_stochastic.inference.model import load_weights
from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.posteriors import ChannelDropout
from nnunet_stochastic.posteriors.ensemble import TrainedWeights
from nnunet_stochastic.training import DropoutTrainer, LowRankTrainer
from tests.inference import predictors
from tests.inference.predictors import PROPERTIES


@pytest.fixture
def dropout_model(tmp_path, folders, find_trainer):
    return folders.write_model_folder(tmp_path / "dropout", trainer=find_trainer(DropoutTrainer))


@pytest.fixture
def swag_model(tmp_path, folders):
    """A plain model with the snapshots of a SWAG training: fold 0's weights plus noise."""
    folder = folders.write_model_folder(tmp_path / "swag")
    predictors.add_snapshots(folder)
    return folder


@pytest.fixture
def cyclic_model(tmp_path, folders):
    """A plain model with the weights of three cycles, of which the last is the checkpoint."""
    folder = folders.write_model_folder(tmp_path / "cyclic")
    predictors.add_cycles(folder)
    return folder


def build(folder, folds=(0,), **options) -> StochasticPredictor:
    return predictors.build(folder, folds=folds, **{"mirroring": False, **options})


def chosen(model, requested) -> str:
    return choose_method(model, requested).name


def test_automatic_choice(tmp_path, folders, dropout_model, swag_model):
    plain = folders.write_model_folder(tmp_path / "plain", folds=(0, 1))
    assert chosen(load_model(plain, folds=(0,)), "auto") == "none"
    assert chosen(load_model(plain, folds=(0, 1)), "auto") == "ensemble"
    assert chosen(load_model(dropout_model, folds=(0,)), "auto") == "dropout"
    assert chosen(load_model(swag_model, folds=(0,)), "auto") == "swag"
    assert chosen(load_model(swag_model, folds=(0,)), "swag_diag") == "swag_diag"
    assert chosen(load_model(dropout_model, folds=(0,)), "none") == "none"


@pytest.mark.parametrize("chosen_by_auto", [False, True])
def test_a_method_that_every_model_has_is_not_chosen_unasked(tmp_path, folders, monkeypatch, chosen_by_auto):
    model = load_model(folders.write_model_folder(tmp_path / "plain"), folds=(0,))
    other = replace(EPISTEMIC_METHODS["none"], name="other", chosen_by_auto=chosen_by_auto)
    monkeypatch.setattr(members, "EPISTEMIC_METHODS", {**EPISTEMIC_METHODS, "other": other})
    assert chosen(model, "auto") == ("other" if chosen_by_auto else "none")
    assert chosen(model, "other") == "other"


@pytest.mark.parametrize(
    ("folds", "method", "message"),
    [
        ((0, 1), "none", "there is one member, got 2 folds"),
        ((0,), "ensemble", "needs several trained folds"),
        (
            (0,),
            "dropout",
            "nnUNetTrainer has no dropout to keep on in fold_0 .* nnUNetTrainerDeterministicDropout$",
        ),
        (
            (0, 1),
            "swag",
            r"left no SWAG statistics \(swag.pth\) in fold_0 and fold_1 of .*: train .*DeterministicSWAG to its end",
        ),
        ((0,), "laplace", r"has no laplace.pth in fold_0 of .*: nnunet_stochastic_fit_laplace makes it"),
        (
            (0,),
            "checkpoints",
            r"has no weights of cycles \(cyclic\.pth\) in fold_0 of .*: train .*DeterministicCyclic to its end",
        ),
        ((0,), "bagging", "must be one of auto, none, ensemble"),
    ],
)
def test_methods_that_a_model_does_not_have(tmp_path, folders, folds, method, message):
    model = load_model(folders.write_model_folder(tmp_path / "plain", folds=(0, 1)), folds=folds)
    with pytest.raises(ValueError, match=message):
        choose_method(model, method)


def test_a_model_with_samples_is_told_a_trainer_of_such_models(tmp_path, folders, find_trainer):
    folder = folders.write_model_folder(tmp_path / "model", trainer=find_trainer(LowRankTrainer))
    with pytest.raises(ValueError, match="train a trainer such as nnUNetTrainerMoBCyclic to its end"):
        choose_method(load_model(folder, folds=(0,)), "checkpoints")


def test_members_per_fold_have_names_of_their_own(dropout_model):
    model = load_model(dropout_model, folds=(0,))
    members = members_of(model, EPISTEMIC_METHODS["dropout"], seed=0, options={"num_members": 3})
    assert [member.name for member in members] == ["fold_0_dropout_0", "fold_0_dropout_1", "fold_0_dropout_2"]


def test_a_dropout_member_is_one_network_for_all_tiles_views_and_images(dropout_model):
    """Two tiles that see the same image give the same: nothing is drawn anew between them."""
    predictor = build(dropout_model, num_members=2, maps=("total",))
    network, masks = predictor.model.network, []

    def record(module, inputs, output):
        masks.append([layer.mask.clone() for layer in network.modules() if isinstance(layer, ChannelDropout)])

    network.register_forward_hook(record)
    for seed in (0, 1):
        predictor.predict_preprocessed(torch.randn((1, 16, 16, 24), generator=torch.Generator().manual_seed(seed)))
    per_image = len(masks) // 2
    first, second = masks[:per_image], masks[per_image:]
    assert per_image == 4  # two tiles, two members
    for place in range(per_image):
        for layer, again in zip(first[place], second[place], strict=True):
            assert torch.equal(layer, again)
    assert all(torch.equal(*layers) for layers in zip(first[0], first[1], strict=True))
    assert any(not torch.equal(*layers) for layers in zip(first[0], first[2], strict=True))


def test_checkpoints_of_cycles_are_members(cyclic_model, folders):
    """The mean over members is that of the three networks predicted one by one, whatever the seed."""
    image = folders.image_array()[None]
    predictor = build(cyclic_model)
    assert predictor.method.name == "checkpoints"
    prediction = predictor.predict_array(image, PROPERTIES, probabilities=True)
    alone = []
    for epoch in (5, 7, 9):
        folder = cyclic_model.with_name(f"alone_{epoch}")
        shutil.copytree(cyclic_model, folder)
        network = load_model(folder, folds=(0,)).network
        weights = torch.load(folder / "fold_0" / "cyclic" / f"epoch_{epoch:04d}.pth")
        with torch.no_grad():  # each storage has several names, and one of them is in the file
            for name, parameter in network.named_parameters():
                parameter.copy_(weights[name])
        checkpoint = torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False)
        torch.save(checkpoint | {"network_weights": network.state_dict()}, folder / "fold_0" / "checkpoint_final.pth")
        one = build(folder, epistemic="none").predict_array(image, PROPERTIES, probabilities=True)
        alone.append(one.probabilities)
    assert predictor.settings()["members"] == 3
    assert prediction.maps["epistemic"].mean() > 1e-4
    np.testing.assert_allclose(prediction.probabilities, np.mean(alone, axis=0), atol=1e-5)
    again = build(cyclic_model, seed=1).predict_array(image, PROPERTIES)
    np.testing.assert_array_equal(again.maps["epistemic"], prediction.maps["epistemic"])


def test_dropout_members_give_epistemic_uncertainty(dropout_model, folders):
    image = folders.image_array()[None]
    prediction = build(dropout_model, num_members=4).predict_array(image, PROPERTIES)
    assert prediction.maps["epistemic"].mean() > 1e-3
    none = build(dropout_model, epistemic="none")
    assert none.maps == ("total",)
    assert "dropout is off" in " ".join(none.settings()["notes"])
    first, second = (none.predict_array(image, PROPERTIES).maps["total"] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_inactive_dropout_is_an_error(dropout_model, folders, monkeypatch):
    predictor = build(dropout_model, num_members=2)
    monkeypatch.setattr(ChannelDropout, "forward", lambda self, x: x)
    with pytest.raises(ValueError, match="fold_0_dropout_0 and fold_0_dropout_1 predict the same: dropout is inactive"):
        predictor.predict_array(folders.image_array()[None], PROPERTIES)


def test_members_that_nearly_agree_are_told_apart(sweeping):
    """Also where the logits of all classes add up to 0, and where a tile's mean square is the same."""
    logits = torch.randn(4, 5, 6).sign()
    networks = []
    for column, factor in ((0, 1.0), (0, 1.001), (1, 1.001), (1, 1.001)):
        changed = logits.clone()
        changed[..., column] *= factor
        networks.append(lambda patch, changed=changed: torch.stack([changed, -changed])[None])
    swept = sweeping.sweep(networks, torch.zeros(1, 4, 5, 6), OutcomeSpace(2), patch_size=(4, 5, 6), has_samples=False)
    fingerprints = swept.fingerprints
    folds = [SimpleNamespace(name=f"fold_{fold}", posterior=TrainedWeights) for fold in range(4)]
    check_members_differ(folds[:3], fingerprints[:3])
    with pytest.raises(ValueError, match="fold_2 and fold_3 predict the same"):
        check_members_differ(folds, fingerprints)


def test_a_blank_image_is_no_sign_of_inactive_dropout(dropout_model):
    prediction = build(dropout_model, num_members=2).predict_array(np.zeros((1, 16, 16, 16), np.float32), PROPERTIES)
    assert np.isfinite(prediction.maps["epistemic"]).all()


def test_copies_of_one_fold_are_no_ensemble(tmp_path, folders):
    folder = folders.write_model_folder(tmp_path / "plain", folds=(0, 1))
    file = "checkpoint_final.pth"
    (folder / "fold_1" / file).write_bytes((folder / "fold_0" / file).read_bytes())
    with pytest.raises(ValueError, match="fold_0 and fold_1 predict the same: they hold the same weights"):
        build(folder, folds=(0, 1)).predict_array(folders.image_array()[None], PROPERTIES)


@pytest.mark.parametrize("method", ["swag", "swag_diag"])
def test_swag_members_are_draws_from_the_snapshots(swag_model, method):
    predictor = build(swag_model, epistemic=method, num_members=3, maps=("total",))
    name, fixed = next(iter(predictor.model.network.named_parameters()))
    values = []
    for member in predictor.members:
        member.activate(predictor.model)
        values.append(fixed.detach().clone())
    assert not torch.equal(values[0], values[1])
    snapshots = torch.stack([torch.load(path)[name] for path in sorted((swag_model / "fold_0" / "swag").glob("*.pth"))])
    spread = torch.stack(values).sub(snapshots.mean(0)).square().mean().sqrt() / snapshots.std(0).square().mean().sqrt()
    assert 0.4 < spread < 2
    predictor.members[0].activate(predictor.model)
    assert torch.equal(fixed, values[0])


@pytest.mark.parametrize("method", ["none", "dropout"])
def test_one_fold_is_read_once(dropout_model, count_reads, method):
    assert count_reads(dropout_model, epistemic=method, num_members=2) == [0, 0, 0]


# The members of one fold are made of the same checkpoint, which is read for two of them.
@pytest.mark.parametrize(("method", "folds", "reads"), [("swag", (0,), 0), ("ensemble", (0, 1), 2)])
def test_weights_of_several_members_are_made_for_two_images_and_kept_for_the_others(
    swag_model, count_reads, method, folds, reads
):
    shutil.copytree(swag_model / "fold_0", swag_model / "fold_1")
    checkpoint = swag_model / "fold_1" / "checkpoint_final.pth"
    content = torch.load(checkpoint, weights_only=False)
    content["network_weights"] = {name: 0.9 * weight for name, weight in content["network_weights"].items()}
    torch.save(content, checkpoint)
    assert count_reads(swag_model, folds=folds, epistemic=method, num_members=2) == [reads, 0, 0]


@pytest.fixture
def count_reads(folders, monkeypatch):
    """Predicts an image four times, to the same result; returns how often weights were read after the first time."""

    def predict(folder, **options):
        predictor = build(folder, mirroring=False, maps=("total",), **options)
        image, calls, counts = folders.image_array()[None], [], []
        first = predictor.predict_array(image, PROPERTIES).maps["total"]

        def counting(model, checkpoint):
            calls.append(checkpoint.name)
            load_weights(model, checkpoint)

        monkeypatch.setattr(members, "load_weights", counting)
        for _ in range(3):
            calls.clear()
            np.testing.assert_array_equal(predictor.predict_array(image, PROPERTIES).maps["total"], first)
            counts.append(len(calls))
        return counts

    return predict


def test_a_model_may_serve_several_predictors(swag_model, folders):
    """Weights that one predictor drew must not stay in the network of the next."""
    image = folders.image_array()[None]
    model = load_model(swag_model, folds=(0,))
    plain = StochasticPredictor(model, options=PredictionOptions(epistemic="none", mirroring=False))
    before = plain.predict_array(image, PROPERTIES).maps["total"]
    StochasticPredictor(model, options=PredictionOptions(num_members=2, mirroring=False)).predict_array(
        image, PROPERTIES
    )
    np.testing.assert_array_equal(plain.predict_array(image, PROPERTIES).maps["total"], before)


def test_a_copy_of_a_model_outlives_it(swag_model, folders):
    """What has been made of weights is in files, which go with the model that made them."""
    image = folders.image_array()[None]
    predictor = build(swag_model, num_members=2)
    first, _ = (predictor.predict_array(image, PROPERTIES).maps["total"] for _ in range(2))
    twin = copy.deepcopy(predictor)
    del predictor
    gc.collect()
    for _ in range(2):
        np.testing.assert_array_equal(twin.predict_array(image, PROPERTIES).maps["total"], first)


def test_a_member_that_was_half_made_is_undone(dropout_model, folders, monkeypatch):
    """An error in the middle, such as a lack of memory, leaves no masks to the next predictor."""
    image = folders.image_array()[None]
    masked = build(dropout_model, num_members=2)
    plain = StochasticPredictor(masked.model, options=PredictionOptions(epistemic="none", mirroring=False))
    before = plain.predict_array(image, PROPERTIES).maps["total"]
    *_, last = (layer for layer in masked.model.network.modules() if isinstance(layer, ChannelDropout))
    with monkeypatch.context() as patched:
        patched.delattr(last, "rate")
        with pytest.raises(AttributeError):
            masked.predict_array(image, PROPERTIES)
    np.testing.assert_array_equal(plain.predict_array(image, PROPERTIES).maps["total"], before)


def test_scale_of_swag(swag_model, folders):
    image = folders.image_array()[None]
    small, large = (
        build(swag_model, num_members=3, swag_scale=scale).predict_array(image, PROPERTIES).maps["epistemic"].mean()
        for scale in (1e-6, 1.0)
    )
    assert large > 100 * small
    assert build(swag_model, swag_scale=0.3).settings()["swag_scale"] == 0.3
