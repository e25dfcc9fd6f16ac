"""Fixtures around ``rater_dataset``."""

from __future__ import annotations

from functools import partial

import pytest

from tests.datasets import rater_dataset


@pytest.fixture
def make_rater_dataset(tmp_path, monkeypatch):
    """Write a dataset with raters into nnU-Net's folders of this test."""
    return partial(rater_dataset.write_rater_dataset, tmp_path, monkeypatch)


@pytest.fixture
def write_volume():
    """Write an array (z, y, x) as an image."""
    return rater_dataset.write_volume
