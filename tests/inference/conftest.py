"""Fixtures around ``model_folder`` and ``sweeping``, and a stochastic trainer for tests of the predictor."""

from __future__ import annotations

import pytest

from nnunet_stochastic.training.trainer_class import find_trainer_class
from tests.inference import model_folder
from tests.inference import sweeping as sweeping_functions


@pytest.fixture(scope="session")
def folders():
    """The functions of ``model_folder``."""
    return model_folder


@pytest.fixture(scope="session")
def sweeping():
    """The functions of ``sweeping``."""
    return sweeping_functions


@pytest.fixture
def find_trainer(monkeypatch):
    """Lets nnU-Net find trainers that are handed to it, by their names; returns what it is given."""
    known = {}

    def find(name):
        return known[name] if name in known else find_trainer_class(name)

    monkeypatch.setattr("nnunet_stochastic.inference.model.find_trainer_class", find)

    def register(trainer):
        known[trainer.__name__] = trainer
        return trainer

    return register


@pytest.fixture
def stochastic_trainer(find_trainer):
    """A trainer whose network predicts N(μ, 1 at each voxel + 1 for the whole image)."""
    return find_trainer(model_folder.GaussianTrainer)
