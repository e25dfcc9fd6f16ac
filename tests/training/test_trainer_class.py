"""Trainers are those that nnU-Net finds, and little else is imported."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_stochastic.training.trainer_class import find_trainer_class


@pytest.mark.parametrize(
    "name", ["nnUNetTrainer", "nnUNetTrainer_5epochs", "nnUNetTrainerDA5", "nnUNetTrainerMoB", "nnUNetTrainerDemo"]
)
def test_trainers_are_those_of_nnunet(name: str) -> None:
    found, expected = find_trainer_class(name), recursive_find_trainer_class_by_name(name)
    assert (found.__module__, found.__qualname__) == (expected.__module__, expected.__qualname__)
    assert found.__name__ == name


@pytest.mark.parametrize("name", ["nnUNetTrainer", "nnUNetTrainer_5epochs", "nnUNetTrainerMoB"])
def test_modules_without_the_name_are_not_imported(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    imported, actual = [], importlib.import_module

    def importing(module: str, *arguments: str):
        imported.append(module)
        return actual(module, *arguments)

    monkeypatch.setattr("nnunet_stochastic.training.trainer_class.importlib.import_module", importing)
    find_trainer_class(name)
    of_nnunet = [module for module in imported if module.startswith("nnunetv2.")]
    assert len(of_nnunet) == (0 if name == "nnUNetTrainerMoB" else 1)


def test_folders_are_searched_in_their_order_after_nnunet(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer"
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same_name.py").write_text(
            f"{base}\n\n\nclass nnUNetTrainerOfMine(nnUNetTrainer):\n    place = '{folder}'\n"
        )
    mine = "class nnUNetTrainerOfB(nnUNetTrainer):\n    pass\n\n\nclass nnUNetTrainer(nnUNetTrainer):\n    pass\n"
    (tmp_path / "b" / "mine.py").write_text(f"{base}\n\n\n{mine}")
    folders = [tmp_path / "none", tmp_path / "a", tmp_path / "b"]
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join(map(str, folders)))
    assert find_trainer_class("nnUNetTrainerOfMine").place == "a"
    assert find_trainer_class("nnUNetTrainerOfB").__module__ == "mine"
    assert find_trainer_class("nnUNetTrainer") is nnUNetTrainer
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join(map(str, reversed(folders))))
    assert find_trainer_class("nnUNetTrainerOfMine").place == "b"  # the module of the other folder did not stay


def test_modules_that_need_what_nnunet_imports_are_found(tmp_path) -> None:
    """In a process of its own, where nothing is imported yet."""
    variants = "nnunetv2.training.nnUNetTrainer.variants"
    (tmp_path / "of_variants.py").write_text(
        f"import nnunetv2\n\nbase = {variants}.training_length.nnUNetTrainer_Xepochs.nnUNetTrainer_5epochs\n\n\n"
        "class nnUNetTrainerOfVariants(base):\n    pass\n"
    )
    look = "from nnunet_stochastic.training.trainer_class import find_trainer_class as f; print(f('%s').__name__)"
    done = subprocess.run(
        [sys.executable, "-c", look % "nnUNetTrainerOfVariants"],
        env={**os.environ, "nnUNet_extTrainer": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "nnUNetTrainerOfVariants"


def test_what_external_modules_raise_is_told(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "failing.py").write_text("raise RuntimeError('nnUNet_raw is not defined')\n")
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path))
    with pytest.raises(ValueError, match="nnUNet_raw is not defined"):
        find_trainer_class("nnUNetTrainerOfMine")


def test_what_is_no_trainer_is_refused() -> None:
    with pytest.raises(ValueError, match="Could not find requested nnunet trainer nnUNetTrainerNowhere"):
        find_trainer_class("nnUNetTrainerNowhere")
    with pytest.raises(ValueError, match="Logger is no trainer of nnU-Net"):
        find_trainer_class("MetaLogger")
