"""Fixtures around ``model_folder`` and ``sweeping``, and a stochastic trainer for tests of the predictor."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name


def _module_beside_this(name):
    spec = importlib.util.spec_from_file_location(f"inference_tests_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


model_folder_module = _module_beside_this("model_folder")
sweeping_module = _module_beside_this("sweeping")


@pytest.fixture(scope="session")
def folders():
    """The functions of ``model_folder``."""
    return model_folder_module


@pytest.fixture(scope="session")
def sweeping():
    """The functions of ``sweeping``."""
    return sweeping_module


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
