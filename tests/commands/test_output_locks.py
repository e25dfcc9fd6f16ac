"""Every command has the lock of what it writes before it computes or writes; another one that writes there is refused.

The table has an entry of each console command: a new one without it fails here.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnunet_stochastic.commands import corrupt, report
from nnunet_stochastic.datasets.conversion.common import Conversion
from nnunet_stochastic.io import output_locks
from nnunet_stochastic.io.output_locks import locked_output_file, locked_output_folder
from nnunet_stochastic.study.checks import Machine
from tests.commands.conftest import MadeFolders, write
from tests.datasets.rater_dataset import write_rater_dataset
from tests.dicom.predictions import MadePredictions
from tests.fitting.conftest import make_dataset, make_model
from tests.inference import model_folder

__all__ = ["make_dataset", "make_model"]

COMMANDS = Path(report.__file__).parent
STUDY = """
output: out
seeds: 1
device: cpu
aleatoric: [SSN]
epistemic: [none]
datasets:
  - {dataset: 7, configuration: 2d, raters: false, convert: make it}
"""


@dataclass
class Place:
    """Where a command is tried: an empty folder, and pytest's fixtures."""

    root: Path
    monkeypatch: pytest.MonkeyPatch
    fixture: Callable[[str], Any]

    def nnunet(self) -> None:
        """Set the variables of nnU-Net to folders of their names."""
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            self.monkeypatch.setenv(name, str(self.root / name))


Words = list[object]
Prepare = Callable[[Place], tuple[Words, Path]]


def info(place):
    return ["-m", place.root / "model", "--card", place.root / "card.md"], place.root / "card.md"


def predict(place):
    model = model_folder.write_model_folder(place.root / "model")
    model_folder.write_image(place.root / "images" / "a_0000.nii.gz", model_folder.image_array(0, (9, 9, 9)))
    options = ["-m", model, "-f", 0, "-device", "cpu", "-npp", 0, "-nps", 0, "--disable_tta"]
    return ["-i", place.root / "images", "-o", place.root / "out", *options], place.root / "out"


def fit_laplace(place):
    folder = place.fixture("make_model")(folds=(0, 1)).folder
    return ["-d", 999, "-c", "3d_fullres", "-f", 0, 1, "-device", "cpu"], folder / "fold_1"


def made(place) -> MadeFolders:
    folders = MadeFolders(place.root)
    folders.add("val", ["a", "b"], seed=1)
    return folders


def evaluate(place):
    return made(place).options("val"), place.root / "val" / "pred" / "evaluation"


def determine_calibration(place):
    return made(place).options("val", "-val"), place.root / "val" / "pred"


def apply_calibration(place):
    made(place).calibrate()
    folder = place.root / "val" / "pred"
    return ["-i", folder, "-calibration", folder / "calibration.json"], folder


def corrupted(place):
    return ["-i", place.root / "images", "-o", place.root / "out", "--shifts", "blur", "jpeg"], place.root / "out/jpeg"


def compare(place):
    return [place.root / "a", place.root / "b", "-o", place.root / "out"], place.root / "out"


def reported(place):
    return [place.root / "a", "-o", place.root / "out" / "page.html"], place.root / "out" / "page.html"


def study(place):
    for module in ("snakemake", "yaml"):
        pytest.importorskip(module)
    place.nnunet()
    module = import_module("nnunet_stochastic.commands.study")
    for name in ("check_datasets", "check_programs"):
        place.monkeypatch.setattr(module, name, lambda *_: None)
    place.monkeypatch.setattr(module, "find_machine", lambda *_: Machine((), {}))
    (place.root / "study.yaml").write_text(STUDY)
    return [place.root / "study.yaml"], place.root / "out"


def converter(plan: str, *options: object) -> Prepare:
    """One whose sources are none."""

    def convert(place):
        place.nnunet()
        conversion = Conversion("Dataset011_X", {}, {"channel_names": {"0": "CT"}}, [], convert=iter)
        place.monkeypatch.setattr(f"nnunet_stochastic.datasets.conversion.{plan}", lambda *_, **__: conversion)
        return ["-i", place.root, "-d", 11, *options], place.root / "nnUNet_raw" / "Dataset011_X"

    return convert


def demo(place):
    return ["-o", place.root / "demo", "--dataset_only"], place.root / "demo"


def dataset_of_demo(place):
    return ["--dataset_into", place.root / "raw"], place.root / "raw"


def preprocess_raters(place):
    dataset = write_rater_dataset(place.root, place.monkeypatch)
    return ["-d", "999"], dataset.raters


def ensemble_splits(place):
    place.nnunet()
    file = place.root / "nnUNet_preprocessed" / "Dataset999_Test" / "splits_final.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps([{"train": ["a"], "val": ["b"]}, {"train": ["b"], "val": ["a"]}]))
    return ["-d", 999, "--overwrite"], file


def export_dicom(place):
    MadePredictions(place.root).add("a")
    return ["-i", place.root / "out", "-dicom", place.root / "dicom", "-o", place.root / "objects"], (
        place.root / "objects"
    )


def export_model(place):
    return ["-d", 999, "-c", "3d_fullres", "-o", place.root / "model.zip"], place.root / "model.zip"


def merge(place):
    parts = [place.root / "a", place.root / "b"]
    for part in parts:
        write(part / "x.nii.gz", np.zeros((2, 3, 4), np.uint8))
        labels = {"background": 0, f"of {part.name}": 1}
        (part / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".nii.gz"}))
        (part / "uncertainty.json").write_text(json.dumps({"settings": {}, "cases": {"x": {}}}))
    return ["-i", *parts, "-o", place.root / "out"], place.root / "out"


def scene(place):
    made(place)
    return ["-i", place.root / "val" / "pred"], place.root / "val" / "pred" / "scenes"


@dataclass(frozen=True)
class Writer:
    """How to try a command, and the function whose call is the begin of its work."""

    prepare: Prepare
    work: str
    is_file: bool = False


CONVERSION = "nnunet_stochastic.datasets.conversion.run.PlannedFolder.run"
#: By the command's name; behind a blank, what else it may write.
WRITERS = {
    "info": Writer(info, "nnunet_stochastic.inference.trained_folder.read_trained_folder", is_file=True),
    "predict": Writer(predict, "nnunet_stochastic.inference.pipeline.Pipeline.run"),
    "fit_laplace": Writer(fit_laplace, "nnunet_stochastic.fitting.laplace.LaplaceFitting.fit"),
    "evaluate": Writer(evaluate, "nnunet_stochastic.commands.evaluate.evaluate_sets"),
    "determine_calibration": Writer(
        determine_calibration, "nnunet_stochastic.commands.determine_calibration.check_cases"
    ),
    "apply_calibration": Writer(apply_calibration, "nnunet_stochastic.commands.apply_calibration.check_cases"),
    "corrupt": Writer(corrupted, "nnunet_stochastic.datasets.corruptions.folder.corrupt_folder"),
    "compare": Writer(compare, "nnunet_stochastic.commands.compare.read_runs"),
    "report": Writer(reported, "nnunet_stochastic.commands.report.read_results", is_file=True),
    "study": Writer(study, "nnunet_stochastic.commands.study._run"),
    "convert_LIDC": Writer(converter("lidc.plan_lidc", "--mode", "3d", "-db", "x"), CONVERSION),
    "convert_Chaksu": Writer(converter("chaksu.plan_chaksu"), CONVERSION),
    "convert_TotalSegmentator": Writer(
        converter("totalsegmentator.plan_totalsegmentator", "-structures", "liver"), CONVERSION
    ),
    "convert_CURVAS": Writer(converter("curvas.plan_curvas"), CONVERSION),
    "demo": Writer(demo, "nnunet_stochastic.commands.demo.run_steps"),
    "demo --dataset_into": Writer(dataset_of_demo, "nnunet_stochastic.commands.demo.write_demo_dataset"),
    "preprocess_raters": Writer(
        preprocess_raters, "nnunet_stochastic.datasets.rater_preprocessing.RaterPreprocessing.check"
    ),
    "make_rater_dataset": Writer(
        converter("rater_dataset.plan_rater_dataset", "-gt_raters", "x", "--name", "X", "--channel_names", "CT"),
        CONVERSION,
    ),
    "ensemble_splits": Writer(ensemble_splits, "nnunet_stochastic.datasets.ensemble_splits._read_splits", is_file=True),
    "export_dicom": Writer(export_dicom, "nnunet_stochastic.evaluation.dicom_export.DicomExport.check_free"),
    "export_model": Writer(export_model, "nnunet_stochastic.inference.model_export.export_model", is_file=True),
    "merge": Writer(merge, "nnunet_stochastic.evaluation.merging.Merge._check"),
    "scene": Writer(scene, "nnunet_stochastic.report.slicer_scene.case_volumes"),
}


def test_the_table_has_every_command():
    text = (COMMANDS.parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    scripts = re.findall(r'^nnunet_stochastic_(\w+) = "nnunet_stochastic\.commands\.(\w+):main"$', text, re.MULTILINE)
    assert len(scripts) > 20
    assert all(script == module for script, module in scripts)
    assert {name.split()[0] for name in WRITERS} == {script for script, _ in scripts}


def content(root: Path) -> dict[Path, bytes | None]:
    """All that is there, but for the locks of folds: they lie beside them and stay, see ``training.fold_lock``."""
    paths = (path for path in root.rglob("*") if not path.match(".fold_*.lock"))
    return {path: path.read_bytes() if path.is_file() else None for path in paths}


@contextmanager
def trained_fold(folder: Path) -> Iterator[None]:
    """Have a fold as a training has it, whose lock is POSIX's: of a process."""
    program = (
        "import sys; from pathlib import Path; from nnunet_stochastic.training.fold_lock import lock_fold\n"
        "lock_fold(Path(sys.argv[1])); print(flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program, str(folder)], **pipes) as process:
        assert process.stdout.readline()
        yield
        process.stdin.close()


@pytest.fixture
def place(tmp_path, monkeypatch, request):
    monkeypatch.setattr(output_locks, "_TIMEOUT_S", 0)
    return Place(tmp_path, monkeypatch, request.getfixturevalue)


class Begun(Exception):
    """A command has begun to work."""


@pytest.mark.parametrize("name", WRITERS)
def test_a_command_does_nothing_where_another_writes(name, place, capsys):
    writer = WRITERS[name]
    words, output = writer.prepare(place)

    def begin(*_, **__):
        raise Begun

    place.monkeypatch.setattr(writer.work, begin)
    main = import_module(f"nnunet_stochastic.commands.{name.split()[0]}").main
    command = list(map(str, words))
    locked = trained_fold if name == "fit_laplace" else locked_output_file if writer.is_file else locked_output_folder
    capsys.readouterr()
    with locked(output):
        before = content(place.root)
        assert main(command) == 1
        assert content(place.root) == before
        assert re.search(
            rf"^error: another command writes {re.escape(str(output))}( \(.*\))?: wait until it has ended.*, or \w+ an",
            capsys.readouterr().err,
            re.MULTILINE,
        )
    if name != "fit_laplace":  # which keeps its lock, by the process, until this one ends
        with pytest.raises(Begun):
            main(command)
        assert not list(place.root.rglob(".*.lock"))


def test_what_runs_side_by_side_is_not_refused(place, tmp_path):
    """As jobs of a study and steps of the demo do: within a folder that is locked, and on one input."""
    out = tmp_path / "out"
    with (
        locked_output_folder(out),
        locked_output_folder(out / "evaluation"),
        locked_output_folder(out / "other evaluation"),
        locked_output_file(out / "report.html"),
        locked_output_file(out / "other.html"),
        locked_output_folder(tmp_path),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_each_shift_may_have_a_command_of_its_own(place, tmp_path, capsys):
    write(tmp_path / "images" / "a_0000.nii.gz", model_folder.image_array(0, (12, 12, 12)))
    words = ["-i", str(tmp_path / "images"), "-o", str(tmp_path / "out"), "-np", "1", "--disable_progress_bar"]
    with locked_output_folder(tmp_path / "out" / "blur"):
        assert corrupt.main([*words, "--shifts", "noise", "contrast"]) == 0
        assert corrupt.main([*words, "--shifts", "noise", "blur", "--continue_corruption"]) == 1
        assert f"another command writes {tmp_path / 'out' / 'blur'}: " in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["contrast", "noise"]
