"""Fixtures around ``rater_dataset``."""

from __future__ import annotations

import importlib.util
import sys
from functools import partial
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("rater_dataset", Path(__file__).with_name("rater_dataset.py"))
_rater_dataset = importlib.util.module_from_spec(_SPEC)
sys.modules["rater_dataset"] = _rater_dataset  # where dataclasses look up the module of a class
_SPEC.loader.exec_module(_rater_dataset)


@pytest.fixture
def make_rater_dataset(tmp_path, monkeypatch):
    """Write a dataset with raters into nnU-Net's folders of this test."""
    return partial(_rater_dataset.write_rater_dataset, tmp_path, monkeypatch)


@pytest.fixture
def write_volume():
    """Write an array (z, y, x) as an image."""
    return _rater_dataset.write_volume
