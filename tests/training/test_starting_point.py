"""Where training starts, and what resuming brings back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights


@pytest.fixture
def dataset(make_dataset):
    """A dataset with a deterministic model trained on it for one epoch."""
    dataset = make_dataset()
    trainer = dataset.trainer("nnUNetTrainer")
    trainer.num_epochs = 1
    trainer.run_training()
    return dataset


def results(dataset, trainer: str = "nnUNetTrainer") -> Path:
    return dataset.folders["nnUNet_results"] / "Dataset999_Tiny" / f"{trainer}__nnUNetPlans__3d_fullres" / "fold_0"


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=False)["network_weights"]


@pytest.mark.parametrize("name", ["nnUNetTrainerDeterministic", "nnUNetTrainerLowRank", "nnUNetTrainerMoB"])
def test_starts_from_the_deterministic_model_mean_head_included(dataset, name: str) -> None:
    trainer = dataset.trainer(name)
    trainer.on_train_start()
    assert trainer.recipe == "fine_tuning"
    assert (trainer.num_epochs, trainer.initial_lr, trainer.weight_decay) == (20, 1e-4, 1e-4)
    assert type(trainer.optimizer) is torch.optim.AdamW
    own = trainer.network.state_dict()
    for key, value in weights_of(results(dataset) / "checkpoint_final.pth").items():
        torch.testing.assert_close(own[key], value, rtol=0, atol=0)
    assert str(results(dataset) / "checkpoint_final.pth") in Path(trainer.log_file).read_text()


def test_heads_learn_at_a_multiple_of_the_learning_rate(dataset) -> None:
    trainer = dataset.trainer("nnUNetTrainerMoB")
    trainer.head_learning_rate_factor = 7.0
    trainer.on_train_start()
    trainer.lr_scheduler.step(5)
    shared, added = trainer.optimizer.param_groups
    assert shared["lr"] == pytest.approx(1e-4 * (1 - 5 / 20) ** 0.9)
    assert added["lr"] == pytest.approx(7 * shared["lr"])
    assert len(added["params"]) == len(trainer.network.names_of_added_weights())


def test_best_checkpoint_serves_where_there_is_no_final_one(dataset) -> None:
    (results(dataset) / "checkpoint_final.pth").unlink()
    assert dataset.trainer("nnUNetTrainerMoB").starting_checkpoint == results(dataset) / "checkpoint_best.pth"


def test_init_variable(dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("nnUNet_stochastic_init", "scratch")
    assert dataset.trainer("nnUNetTrainerMoB").recipe == "scratch"
    elsewhere = tmp_path / "elsewhere.pth"
    elsewhere.write_bytes((results(dataset) / "checkpoint_final.pth").read_bytes())
    monkeypatch.setenv("nnUNet_stochastic_init", str(elsewhere))
    assert dataset.trainer("nnUNetTrainerMoB").starting_checkpoint == elsewhere
    monkeypatch.setenv("nnUNet_stochastic_init", str(tmp_path / "missing.pth"))
    with pytest.raises(FileNotFoundError, match=r"nnUNet_stochastic_init is set to .*missing.pth.*scratch"):
        dataset.trainer("nnUNetTrainerMoB")


def test_a_checkpoint_of_another_plan_is_refused_and_changes_nothing(dataset, monkeypatch, tmp_path: Path) -> None:
    path = results(dataset) / "checkpoint_final.pth"
    checkpoint = torch.load(path, weights_only=False)
    key = "decoder.seg_layers.1.weight"
    checkpoint["network_weights"][key] = checkpoint["network_weights"][key].repeat(2, 1, 1, 1, 1)
    torch.save(checkpoint, tmp_path / "other.pth")
    monkeypatch.setenv("nnUNet_stochastic_init", str(tmp_path / "other.pth"))
    trainer = dataset.trainer("nnUNetTrainerMoB")
    trainer.initialize()
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    with pytest.raises(ValueError, match=r"other.pth does not fit.*seg_layers.1.weight is \(6, 8, 1, 1, 1\)"):
        trainer.on_train_start()
    assert all(torch.equal(value, before[name]) for name, value in trainer.network.state_dict().items())


def test_resumes_bit_exactly_and_by_the_recipe_it_began_with(dataset) -> None:
    trainer = dataset.trainer("nnUNetTrainerMoB")
    trainer.num_epochs = 2
    trainer.run_training()
    path = results(dataset, "nnUNetTrainerMoB") / "checkpoint_final.pth"
    for checkpoint in results(dataset).glob("*.pth"):
        checkpoint.unlink()
    anew = dataset.trainer("nnUNetTrainerMoB")
    assert anew.recipe == "scratch"
    anew.load_checkpoint(str(path))
    assert anew.recipe == "fine_tuning"
    resumed = dataset.trainer("nnUNetTrainerMoB", resume=True)
    assert resumed.recipe == "fine_tuning"
    resumed.load_checkpoint(str(path))
    assert resumed.recipe == "fine_tuning"
    assert (resumed.num_epochs, resumed.initial_lr) == (20, 1e-4)
    assert resumed.current_epoch == 2
    assert resumed._best_ema == trainer._best_ema
    for key, value in trainer.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[key], value), key
    theirs, ours = trainer.optimizer.state_dict(), resumed.optimizer.state_dict()
    assert ours["param_groups"] == theirs["param_groups"]
    for index, state in theirs["state"].items():
        assert all(torch.equal(torch.as_tensor(ours["state"][index][k]), torch.as_tensor(v)) for k, v in state.items())
    resumed.num_epochs = 3
    resumed.run_training()
    assert len(resumed.logger.get_value("train_losses", step=None)) == 3
    assert "fine-tunes the deterministic" not in Path(resumed.log_file).read_text()


def test_a_checkpoint_of_a_trainer_without_recipes_is_not_resumed(dataset) -> None:
    folder = results(dataset, "nnUNetTrainerDeterministic")
    folder.mkdir(parents=True)
    shutil.copyfile(results(dataset) / "checkpoint_final.pth", folder / "checkpoint_final.pth")
    with pytest.raises(
        ValueError, match=r"checkpoint_final.pth was written by another trainer .*train anew without --c"
    ):
        dataset.trainer("nnUNetTrainerDeterministic", resume=True)


def test_the_latest_checkpoint_knows_the_best_one(dataset) -> None:
    trainer = dataset.trainer("nnUNetTrainerDeterministic")
    trainer.save_every = 1
    trainer.on_train_start()
    for epoch, dice in enumerate((0.2, 0.4, 0.1)):
        for key in ("train_losses", "val_losses", "epoch_start_timestamps"):
            trainer.logger.log(key, 0.0, epoch)
        trainer.logger.log("dice_per_class_or_region", [dice], epoch)
        trainer.logger.log("mean_fg_dice", dice, epoch)
        trainer.on_epoch_end()
        latest = torch.load(Path(trainer.output_folder) / "checkpoint_latest.pth", weights_only=False)
        assert latest["_best_ema"] == max(latest["logging"]["ema_fg_dice"])
        assert latest["current_epoch"] == epoch + 1


def test_an_interrupted_checkpoint_leaves_the_one_before(dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(Exception):
        """Stands for the end of the process: nothing is tidied up."""

    def write_half(_, path: str) -> None:
        Path(path).write_bytes(b"half")
        raise Interrupted

    trainer = dataset.trainer("nnUNetTrainerDiagonal")
    trainer.on_train_start()
    path = Path(trainer.output_folder) / "checkpoint_latest.pth"
    trainer.save_checkpoint(str(path))
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", write_half)
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(Interrupted):
            trainer.save_checkpoint(str(path))
    assert path.read_bytes() == before
    (half,) = path.parent.glob(".checkpoint_latest.pth.unfinished-*/checkpoint_latest.pth")
    assert half.read_bytes() == b"half"
    dataset.trainer("nnUNetTrainerDiagonal").on_train_start()
    assert not list(path.parent.glob(".*.unfinished-*"))


def test_pretrained_weights_take_the_place_of_the_deterministic_model(dataset) -> None:
    path = results(dataset) / "checkpoint_final.pth"
    trainer = dataset.trainer("nnUNetTrainerMoB")
    trainer.initialize()
    fresh = trainer.network.heads.weight.clone()
    load_pretrained_weights(trainer.network, str(path))
    trainer.on_train_start()
    assert trainer.recipe == "scratch"
    assert trainer.num_epochs == 1000
    assert type(trainer.optimizer) is torch.optim.SGD
    key = "encoder.stages.0.0.convs.0.conv.weight"
    torch.testing.assert_close(trainer.network.state_dict()[key], weights_of(path)[key], rtol=0, atol=0)
    torch.testing.assert_close(trainer.network.heads.weight, fresh, rtol=0, atol=0)


@pytest.mark.parametrize(
    "name",
    ["nnUNetTrainerSoftmax", "nnUNetTrainerSSN", "nnUNetTrainerProbUNetDropout", "nnUNetTrainerDiffusionSWAG"],
)
@pytest.mark.usefixtures("tiny_generative_models")
def test_pretrained_weights_of_another_network_are_refused_before_nnunet_asserts(dataset, name: str) -> None:
    trainer = dataset.trainer(name)
    trainer.initialize()
    before = {key: value.clone() for key, value in trainer.network.state_dict().items()}
    with pytest.raises(
        ValueError,
        match=rf"-pretrained_weights .*checkpoint_final\.pth does not fit the network of {name} .*missing from the file"
        ".*a network of its own.*train without -pretrained_weights",
    ):
        load_pretrained_weights(trainer.network, str(results(dataset) / "checkpoint_final.pth"))
    assert all(torch.equal(value, before[key]) for key, value in trainer.network.state_dict().items())


@pytest.mark.usefixtures("tiny_generative_models")
def test_pretrained_weights_of_the_same_trainer_are_taken(dataset, tmp_path: Path) -> None:
    trainer = dataset.trainer("nnUNetTrainerDiffusion")
    trainer.initialize()
    trainer.save_checkpoint(str(tmp_path / "own.pth"))
    other = dataset.trainer("nnUNetTrainerDiffusion")
    other.initialize()
    load_pretrained_weights(other.network, str(tmp_path / "own.pth"))
    for key, value in trainer.network.state_dict().items():
        assert torch.equal(other.network.state_dict()[key], value), key


def test_pretrained_weights_of_another_plan_are_refused_before_nnunet_asserts(dataset, tmp_path: Path) -> None:
    path = results(dataset) / "checkpoint_final.pth"
    checkpoint = torch.load(path, weights_only=False)
    key = "encoder.stages.0.0.convs.0.conv.weight"
    checkpoint["network_weights"][key] = checkpoint["network_weights"][key][:4]
    torch.save(checkpoint, tmp_path / "other.pth")
    trainer = dataset.trainer("nnUNetTrainerMoB")
    trainer.initialize()
    with pytest.raises(
        ValueError, match=rf"other\.pth does not fit .*\(1 weights.* {key} is \(4, 1, 3, 3, 3\) in the file.*same plans"
    ):
        load_pretrained_weights(trainer.network, str(tmp_path / "other.pth"))


def test_stock_prediction_is_exactly_the_mean(dataset) -> None:
    """nnU-Net's own predictor gives to the bit the same on a MoB model that has not left its start as on that start."""
    trainer = dataset.trainer("nnUNetTrainerMoB")
    trainer.on_train_start()
    trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    image = torch.randn(1, 20, 18, 24, generator=torch.Generator().manual_seed(0))
    logits = []
    for name in ("nnUNetTrainer", "nnUNetTrainerMoB"):
        predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(results(dataset, name).parent), (0,), "checkpoint_final.pth")
        logits.append(predictor.predict_logits_from_preprocessed_data(image))
    assert torch.equal(*logits)
    assert logits[0].std() > 0
