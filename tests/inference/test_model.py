from pathlib import Path

import numpy as np
import pytest
import torch

from nnunet_stochastic.inference.model import load_model, load_weights


class Code:
    """Makes a file when it is unpickled: what a checkpoint from anywhere could do, and worse."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def model_folder(tmp_path, folders):
    return folders.write_model_folder(tmp_path / "model", folds=(0, 1))


def edit(path, **changes):
    checkpoint = torch.load(path, weights_only=False)
    checkpoint.update(changes)
    torch.save(checkpoint, path)


def test_members_have_their_own_weights(model_folder):
    model = load_model(model_folder, folds=(0, 1))
    assert [checkpoint.name for checkpoint in model.checkpoints] == ["fold_0", "fold_1"]
    assert model.checkpoints[0].sha256 != model.checkpoints[1].sha256
    assert not model.has_samples
    assert model.mirror_axes == (0, 1, 2)
    for member in reversed(model.checkpoints):
        load_weights(model, member)
        expected = torch.load(member.path, weights_only=False)["network_weights"]
        for name, weight in model.network.state_dict().items():
            assert torch.equal(weight, expected[name])


def test_fold_all(tmp_path, folders):
    folder = folders.write_model_folder(tmp_path / "other", folds=("all",))
    assert load_model(folder, folds=["all"]).checkpoints[0].name == "fold_all"


def test_missing_files_are_named(tmp_path, model_folder):
    with pytest.raises(FileNotFoundError, match="there is no model folder"):
        load_model(tmp_path / "nowhere", folds=(0,))
    with pytest.raises(FileNotFoundError, match=r"fold_4.*folds with checkpoint_final.pth: 0 1"):
        load_model(model_folder, folds=(0, 4))
    with pytest.raises(FileNotFoundError, match=r"no fold has checkpoint_best.pth"):
        load_model(model_folder, folds=(0,), checkpoint_name="checkpoint_best.pth")
    with pytest.raises(ValueError, match="all different"):
        load_model(model_folder, folds=(0, 0))
    (model_folder / "plans.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"plans.json is missing"):
        load_model(model_folder, folds=(0,))


def test_checkpoint_of_another_trainer_or_configuration(model_folder):
    with pytest.raises(ValueError, match="was written by nnUNetTrainer, not by nnUNetTrainerMoB"):
        load_model(model_folder, folds=(0,), trainer_name="nnUNetTrainerMoB")
    with pytest.raises(ValueError, match="is of 3d_fullres, not of 2d"):
        load_model(model_folder, folds=(0,), configuration_name="2d")


def test_folds_must_agree(model_folder):
    edit(model_folder / "fold_1" / "checkpoint_final.pth", inference_allowed_mirroring_axes=(0,))
    with pytest.raises(ValueError, match="cannot be members of one ensemble"):
        load_model(model_folder, folds=(0, 1))


def test_trainer_that_is_nowhere(model_folder):
    edit(model_folder / "fold_0" / "checkpoint_final.pth", trainer_name="nnUNetTrainerNowhere")
    with pytest.raises(ValueError, match="Could not find requested nnunet trainer nnUNetTrainerNowhere"):
        load_model(model_folder, folds=(0,))


def test_checkpoint_that_carries_code_needs_trust(model_folder, tmp_path):
    edit(model_folder / "fold_0" / "checkpoint_final.pth", logging=Code(tmp_path / "ran"))
    with pytest.raises(ValueError, match="--trust_checkpoint"):
        load_model(model_folder, folds=(0,))
    assert not (tmp_path / "ran").exists()
    assert load_model(model_folder, folds=(0,), trust_checkpoint=True).trainer_name == "nnUNetTrainer"
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("scalar", [np.float32(1), np.float64(1), np.int64(1), np.bool_(True)], ids=repr)
def test_scalars_of_numpy_need_no_trust(model_folder, scalar):
    edit(model_folder / "fold_0" / "checkpoint_final.pth", _best_ema=scalar)
    allowed = set(torch.serialization.get_safe_globals())
    load_model(model_folder, folds=(0,))
    assert set(torch.serialization.get_safe_globals()) == allowed


def test_broken_checkpoints(model_folder):
    path = model_folder / "fold_0" / "checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="it may be incomplete"):
        load_model(model_folder, folds=(0,))
    torch.save({"network_weights": {}}, path)
    with pytest.raises(ValueError, match="it has no trainer_name, init_args"):
        load_model(model_folder, folds=(0,))


def test_weights_of_another_network(model_folder):
    edit(model_folder / "fold_0" / "checkpoint_final.pth", network_weights={"weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="do not fit the network that nnUNetTrainer builds"):
        load_model(model_folder, folds=(0,))


def test_one_class_is_an_error(tmp_path, folders):
    folder = folders.write_model_folder(tmp_path / "one", labels={"background": 0})
    with pytest.raises(ValueError, match="at least one foreground label"):
        load_model(folder, folds=(0,))


def test_trainers_with_the_signature_of_older_versions_of_nnunet(tmp_path, folders, monkeypatch):
    (tmp_path / "trainers").mkdir()
    (tmp_path / "trainers" / "nnUNetTrainerOldSignature.py").write_text(OLD_TRAINER)
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path / "trainers"))
    folder = folders.write_model_folder(tmp_path / "model", folds=(0,))
    path = folder / "fold_0" / "checkpoint_final.pth"
    edit(path, trainer_name="nnUNetTrainerOldSignature")
    weights = load_model(folder, folds=(0,)).network.state_dict()
    expected = torch.load(path, weights_only=False)["network_weights"]
    assert all(torch.equal(weight, expected[name]) for name, weight in weights.items())


OLD_TRAINER = """
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans


class nnUNetTrainerOldSignature(nnUNetTrainer):
    @staticmethod
    def build_network_architecture(
        architecture_class_name, arch_init_kwargs, arch_init_kwargs_req_import,
        num_input_channels, num_output_channels, enable_deep_supervision=True,
    ):
        return get_network_from_plans(
            architecture_class_name, arch_init_kwargs, arch_init_kwargs_req_import,
            num_input_channels, num_output_channels, deep_supervision=enable_deep_supervision,
        )
"""
