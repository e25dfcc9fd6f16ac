"""What every posterior over weights in the catalogue keeps, each with a model that has it."""

import shutil
from types import SimpleNamespace

import pytest
import torch

from nnunet_stochastic.epistemic import EPISTEMIC_METHODS, NUM_MEMBERS
from nnunet_stochastic.inference import PredictionOptions, StochasticPredictor, load_model
from nnunet_stochastic.inference.blending import LawBlend
from nnunet_stochastic.io.hashing import file_sha256
from nnunet_stochastic.networks.last_layer import last_layer_weights
from nnunet_stochastic.posteriors import posterior_class
from nnunet_stochastic.posteriors.last_layer_curvature import curvature_for
from nnunet_stochastic.posteriors.snapshots import snapshot_path
from nnunet_stochastic.training import DropoutTrainer
from tests.inference.predictors import add_cycles, add_snapshots
from tests.posteriors.laplace_fits import write_fit

CHECKPOINT = "checkpoint_final.pth"


def plain(folders, find_trainer, folder):
    return folders.write_model_folder(folder), (0,)


def two_folds(folders, find_trainer, folder):
    return folders.write_model_folder(folder, folds=(0, 1)), (0, 1)


def with_dropout(folders, find_trainer, folder):
    return folders.write_model_folder(folder, trainer=find_trainer(DropoutTrainer)), (0,)


def with_snapshots(folders, find_trainer, folder):
    folders.write_model_folder(folder)
    add_snapshots(folder)
    return folder, (0,)


def with_cycles(folders, find_trainer, folder):
    folders.write_model_folder(folder)
    add_cycles(folder)
    return folder, (0,)


def with_fits(folders, find_trainer, folder):
    folders.write_model_folder(folder, folds=(0, 1))
    model = load_model(folder, folds=(0, 1))
    for checkpoint in model.checkpoints:
        weight, _ = last_layer_weights(model.network)
        curvature = curvature_for(weight.shape[0], weight.shape[1] + 1)
        inputs = torch.randn((50, weight.shape[1] + 1), generator=torch.Generator().manual_seed(0))
        half = torch.tensor([[0.25, -0.25], [-0.25, 0.25]]).expand(50, 2, 2)
        curvature.add(inputs, half, torch.ones(50))
        write_fit(model, checkpoint, curvature, temperature=0.5, prior_precision=1.0)
    return folder, (0, 1)


#: Of each method, what writes a model that has its posterior and returns its folder and folds.
MODELS = {
    "none": plain,
    "ensemble": two_folds,
    "dropout": with_dropout,
    "swag": with_snapshots,
    "swag_diag": with_snapshots,
    "checkpoints": with_cycles,
    "laplace": with_fits,
}


@pytest.fixture
def write_model(tmp_path, folders, find_trainer):
    return lambda method: MODELS[method](folders, find_trainer, tmp_path / "model")


def build(write_model, method, **options):
    folder, folds = write_model(method)
    options = PredictionOptions(epistemic=method, num_members=2, mirroring=False, **options)
    return StochasticPredictor.from_model_folder(folder, folds=folds, options=options)


def test_every_method_has_a_model_here():
    assert MODELS.keys() == EPISTEMIC_METHODS.keys()


@pytest.mark.parametrize("method", EPISTEMIC_METHODS)
def test_a_member_is_one_network_in_all_tiles_and_images(write_model, monkeypatch, method):
    """Two tiles of an image that repeats itself see the same patch, and so does another image after all members."""
    predictor = build(write_model, method)
    period = torch.randn((1, 16, 16, 8), generator=torch.Generator().manual_seed(0))
    image = torch.cat([period] * 3, dim=3)
    seen, current = {}, []
    start, add_view = LawBlend.start, LawBlend.add_view

    def starting(self, member, index):
        self.member_of_test = member
        current.append(member)
        start(self, member, index)

    def adding(self, distribution, tile, view, **options):
        seen.setdefault(self.member_of_test, []).append(distribution.mean_logits.clone())
        add_view(self, distribution, tile, view, **options)

    monkeypatch.setattr(LawBlend, "start", starting)
    monkeypatch.setattr(LawBlend, "add_view", adding)
    for case in ("a", "b"):
        predictor.predict_preprocessed(image, case=case)
    names = [member.name for member in predictor.members]
    assert sorted(seen) == sorted(names)
    for outputs in seen.values():
        assert len(outputs) == 4  # two tiles of two images
        assert all(torch.equal(output, outputs[0]) for output in outputs)
    firsts = [outputs[0] for outputs in seen.values()]
    assert all(not torch.allclose(a, b) for index, a in enumerate(firsts) for b in firsts[:index])


@pytest.mark.parametrize("method", EPISTEMIC_METHODS)
def test_members_follow_from_the_seed_alone(write_model, method):
    """In whichever order they are made."""
    folder, folds = write_model(method)
    patch = torch.randn((1, 1, 16, 16, 16), generator=torch.Generator().manual_seed(0))

    def outputs(seed, order):
        options = PredictionOptions(epistemic=method, num_members=2, seed=seed)
        predictor = StochasticPredictor.from_model_folder(folder, folds=folds, options=options)
        found = {}
        with torch.inference_mode():
            for member in order(predictor.members):
                member.activate(predictor.model)
                found[member.name] = predictor.model.network(patch)
        return found

    first, again, other = outputs(0, list), outputs(0, reversed), outputs(1, list)
    drawn = NUM_MEMBERS in EPISTEMIC_METHODS[method].options
    for name, output in first.items():
        assert torch.equal(output, again[name])
        assert torch.equal(output, other[name]) != drawn


@pytest.mark.parametrize("method", [name for name, method in EPISTEMIC_METHODS.items() if method.draws_members])
def test_random_numbers_are_the_cpus(write_model, method):
    """So that a member is the same on every device."""
    predictor = build(write_model, method)
    elsewhere = SimpleNamespace(device=torch.device("cuda"))
    with pytest.raises(ValueError, match="drawn on the CPU, got a generator on cuda"):
        predictor.members[0].posterior.activate(predictor.model.network, elsewhere)


@pytest.mark.parametrize("method", EPISTEMIC_METHODS)
def test_settings_have_the_hashes_of_all_that_members_are_made_of(write_model, method):
    predictor = build(write_model, method)
    checkpoints = predictor.settings()["checkpoints"]
    assert list(checkpoints) == [checkpoint.name for checkpoint in predictor.model.checkpoints]
    for fold in predictor.model.checkpoints:
        files = {f"{name.partition('.')[0]}_sha256": name for name in posterior_class(predictor.method).files}
        expected = {key: file_sha256(fold.folder / name) for key, name in files.items()}
        posterior = next(member.posterior for member in predictor.members if member.checkpoint is fold)
        settings = {method: posterior.settings()} if posterior.settings() else {}
        assert checkpoints[fold.name] == {"file": CHECKPOINT, "sha256": file_sha256(fold.path), **expected, **settings}


def change_checkpoint(folder):
    """As training the fold again does."""
    path = folder / "fold_0" / CHECKPOINT
    content = torch.load(path, weights_only=False)
    content["network_weights"] = {name: 1.01 * weight for name, weight in content["network_weights"].items()}
    torch.save(content, path)


def change_snapshot(folder):
    """As putting back one of another training does."""
    path = snapshot_path(folder / "fold_0", 2)
    torch.save({name: 1.01 * weight for name, weight in torch.load(path).items()}, path)


#: What makes the files of a method those of another training; a method without files has nothing to belong to one.
OF_ANOTHER_TRAINING = {
    "swag": change_snapshot,
    "swag_diag": change_snapshot,
    "checkpoints": change_checkpoint,
    "laplace": change_checkpoint,
}


@pytest.mark.parametrize("method", EPISTEMIC_METHODS)
def test_files_of_another_training_are_refused(write_model, method):
    if not posterior_class(EPISTEMIC_METHODS[method]).files:
        assert method not in OF_ANOTHER_TRAINING
        return
    folder, folds = write_model(method)
    OF_ANOTHER_TRAINING[method](folder)
    for epistemic in (method, "auto"):
        if epistemic == "auto" and len(folds) > 1:
            continue  # the ensemble of the folds
        with pytest.raises(ValueError, match=r"(another training|another state of|not of the training of)"):
            StochasticPredictor.from_model_folder(
                folder, folds=folds, options=PredictionOptions(epistemic=epistemic, num_members=2)
            )


def test_a_fit_beside_another_fold_or_checkpoint_is_refused(write_model):
    folder, _ = write_model("laplace")
    options = PredictionOptions(epistemic="laplace", num_members=2)
    shutil.copy(folder / "fold_0" / CHECKPOINT, folder / "fold_0" / "checkpoint_best.pth")
    StochasticPredictor.from_model_folder(folder, folds=(0,), options=options, checkpoint_name="checkpoint_best.pth")
    shutil.copy(folder / "fold_1" / CHECKPOINT, folder / "fold_0" / "checkpoint_best.pth")
    with pytest.raises(ValueError, match=r"another state of .*checkpoint_best.pth"):
        StochasticPredictor.from_model_folder(
            folder, folds=(0,), options=options, checkpoint_name="checkpoint_best.pth"
        )
    shutil.copy(folder / "fold_1" / "laplace.pth", folder / "fold_0" / "laplace.pth")
    with pytest.raises(ValueError, match=r"fold_0/laplace.pth was fitted to another state of .*checkpoint_final.pth"):
        StochasticPredictor.from_model_folder(folder, folds=(0, 1), options=options)
