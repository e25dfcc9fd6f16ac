"""The examples of the guide to Python and of the public names' docstrings, run on a model of random weights."""

from __future__ import annotations

import doctest
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

import nnunet_stochastic
from nnunet_stochastic.discovery import activate
from tests.inference.model_folder import image_array, write_image, write_model_folder

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "guides" / "python.md"
MODEL = "nnUNet_results/Dataset501_X/nnUNetTrainerMoB__nnUNetPlans__3d_fullres"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with the model, images and references that the examples name."""
    activate()
    trainer = recursive_find_trainer_class_by_name("nnUNetTrainerMoB")
    # nnU-Net prints where it looks for trainers, which is no part of the examples.
    monkeypatch.setattr("nnunet_stochastic.inference.model.find_trainer_class", lambda name: trainer)
    write_model_folder(tmp_path / MODEL, trainer=trainer)
    for seed, case in enumerate(("case_001", "case_002")):
        array = image_array(seed)
        write_image(tmp_path / "imagesTs" / f"{case}_0000.nii.gz", array, spacing=(0.7, 0.7, 1.25))
        write_image(tmp_path / "labelsTs" / f"{case}.nii.gz", (array > 350).astype(np.uint8), spacing=(0.7, 0.7, 1.25))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(examples: doctest.DocTest) -> int:
    """Run examples; returns their number."""
    report: list[str] = []
    results = doctest.DocTestRunner(verbose=False).run(examples, out=report.append)
    assert results.failed == 0, "".join(report)
    return results.attempted


def test_the_guide(folder):
    blocks = re.findall(r"^```pycon\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    assert run(doctest.DocTestParser().get_doctest("\n".join(blocks), {}, GUIDE.name, str(GUIDE), 0)) > 15
    assert (folder / "total.nii.gz").is_file()
    assert (folder / "out" / "epistemic" / "case_002.nii.gz").is_file()


WITH_EXAMPLES = ("StochasticPredictor", "PredictionOptions", "predict_folder", "evaluate_folder")


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_docstrings(folder, name):
    public = getattr(nnunet_stochastic, name)
    found = doctest.DocTestFinder(recurse=True).find(public, name, module=inspect.getmodule(public), globs={})
    assert sum(run(examples) for examples in found if examples.examples) > 0
