"""Fixtures around ``model_folder``, and a stochastic trainer for tests of the predictor."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("model_folder", Path(__file__).with_name("model_folder.py"))
model_folder_module = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(model_folder_module)


@pytest.fixture(scope="session")
def folders():
    """The functions of ``model_folder``."""
    return model_folder_module


@pytest.fixture
def stochastic_trainer(monkeypatch):
    """A trainer whose network predicts N(μ, 1 at each voxel + 1 for the whole image); nnU-Net finds it by name."""
    trainer = model_folder_module.GaussianTrainer
    monkeypatch.setattr(
        "nnunet_stochastic.inference.model.recursive_find_trainer_class_by_name",
        {trainer.__name__: trainer}.__getitem__,
    )
    return trainer
