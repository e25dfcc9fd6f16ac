"""What the guide says of a trainer of one's own, run as printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

GUIDE = (Path(__file__).parents[2] / "docs/guides/trainers.md").read_text(encoding="utf-8")
SECTION = GUIDE.partition("\n## A trainer of your own\n")[2]


@pytest.fixture
def own_trainer(make_dataset, monkeypatch, tmp_path: Path):
    """The code block of the guide in the file that it names, and the folder exported as it says."""
    (code,) = re.findall(r"^```python\n(# (my_trainers/\w+\.py)\n.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
    dataset = make_dataset(2)
    file = tmp_path / code[1]
    file.parent.mkdir()
    file.write_text(code[0])
    assert "export nnUNet_extTrainer=$PWD/my_trainers\n" in SECTION
    monkeypatch.setenv("nnUNet_extTrainer", str(file.parent))
    return dataset, code[0]


def test_the_trainer_of_ones_own_runs_as_printed(own_trainer) -> None:
    dataset, code = own_trainer
    assert len(code.splitlines()) <= 13
    first, second = re.findall(r"nnUNetv2_train 501 3d_fullres 0 -tr (\w+)$", SECTION, re.MULTILINE)
    deterministic = dataset.trainer(first)
    deterministic.run_training()
    assert (type(deterministic).__name__, deterministic.current_epoch) == ("nnUNetTrainer_5epochs", 5)
    trainer = dataset.trainer(second)
    trainer.num_iterations_per_epoch = 10
    trainer.run_training()
    assert trainer.recipe == "fine_tuning"
    assert trainer.starting_checkpoint == Path(deterministic.output_folder) / "checkpoint_final.pth"
    assert (trainer.current_epoch, trainer.num_epochs) == (3, 3)
    assert trainer.network.heads.bases.shape[0] == 5
    weights = torch.load(Path(trainer.output_folder) / "checkpoint_final.pth", weights_only=False)["network_weights"]
    assert any("bases" in name for name in weights)


def test_the_trainer_of_ones_own_keeps_nnunets_settings(own_trainer) -> None:
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    dataset, _ = own_trainer
    trainer_class = recursive_find_trainer_class_by_name("nnUNetTrainerMoB5")
    plans = dict(dataset.plans) | {"continue_training": False}
    trainer = trainer_class(plans, dataset.configuration, 0, dict(dataset.dataset_json), torch.device("cpu"))
    assert trainer.num_iterations_per_epoch == 10
    assert trainer.num_val_iterations_per_epoch == 50
    assert trainer.recipe == "scratch"  # the model of nnUNetTrainer_5epochs is not there


def test_without_the_name_the_model_of_another_trainer_is_not_continued(own_trainer, tmp_path: Path) -> None:
    dataset, code = own_trainer
    deterministic = dataset.trainer("nnUNetTrainer_5epochs")
    deterministic.initialize()
    deterministic.save_checkpoint(str(Path(deterministic.output_folder) / "checkpoint_final.pth"))
    assert dataset.trainer("nnUNetTrainerMoB5").recipe == "fine_tuning"
    without = re.sub(r"    deterministic_trainer = .*\n", "", code).replace("nnUNetTrainerMoB5", "nnUNetTrainerUnnamed")
    (tmp_path / "my_trainers" / "nnUNetTrainerUnnamed.py").write_text(without)
    assert dataset.trainer("nnUNetTrainerUnnamed").recipe == "scratch"
