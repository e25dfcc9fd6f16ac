"""Fixtures: a study of stand-in programs, and studies that are only read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.study.stand_ins import StandIns


@pytest.fixture
def stand_ins(tmp_path):
    """A study whose programs take no time."""
    return StandIns(tmp_path)


@pytest.fixture(scope="module")
def done_at_once(tmp_path_factory):
    """The same study, run to its end without a disturbance, and what it printed."""
    study = StandIns(tmp_path_factory.mktemp("done"))
    return study, study.run()


@pytest.fixture
def nnunet(tmp_path, monkeypatch):
    """nnU-Net's folders, empty."""
    for part in ("raw", "preprocessed", "results"):
        (tmp_path / part).mkdir()
        monkeypatch.setenv(f"nnUNet_{part}", str(tmp_path / part))
    return tmp_path


@pytest.fixture
def make_dataset(nnunet):
    """Write the folders of a dataset, without any image."""

    def make(name: str, *, num_raters: int | None = None, endings: tuple[str, ...] = ("Tr", "Ts")) -> Path:
        raw = nnunet / "raw" / name
        for ending in endings:
            for kind in ("images", "labels", "raters") if num_raters else ("images", "labels"):
                (raw / f"{kind}{ending}").mkdir(parents=True)
        description = {"file_ending": ".png", "labels": {"background": 0, "lesion": 1}}
        if num_raters:
            description["num_raters"] = num_raters
        (raw / "dataset.json").write_text(json.dumps(description))
        return raw

    return make


@pytest.fixture
def write_study(nnunet):
    """Write a study; returns its file."""

    def write(text: str) -> Path:
        file = nnunet / "study.yaml"
        file.write_text(text)
        return file

    return write
