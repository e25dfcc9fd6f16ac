"""Fixtures around ``model_folder``, and a stochastic trainer for tests of the predictor."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

_SPEC = importlib.util.spec_from_file_location("model_folder", Path(__file__).with_name("model_folder.py"))
model_folder_module = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(model_folder_module)


@pytest.fixture(scope="session")
def folders():
    """The functions of ``model_folder``."""
    return model_folder_module


@pytest.fixture
def find_trainer(monkeypatch):
    """Lets nnU-Net find trainers that are handed to it, by their names; returns what it is given."""
    known = {}

    def find(name):
        return known[name] if name in known else recursive_find_trainer_class_by_name(name)

    monkeypatch.setattr("nnunet_stochastic.inference.model.recursive_find_trainer_class_by_name", find)

    def register(trainer):
        known[trainer.__name__] = trainer
        return trainer

    return register


@pytest.fixture
def stochastic_trainer(find_trainer):
    """A trainer whose network predicts N(μ, 1 at each voxel + 1 for the whole image)."""
    return find_trainer(model_folder_module.GaussianTrainer)
