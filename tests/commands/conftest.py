"""Prediction folders with maps, samples and raters, made from arrays that tests compute expected numbers from."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_stochastic.commands import determine_calibration, evaluate

COMMANDS = Path(determine_calibration.__file__).parent
SHAPE = (3, 12, 14)
SPACING = (0.7, 0.9, 2.5)
NUM_RATERS, NUM_SAMPLES = 3, 3
MAP_FOLDERS = {"AU": "aleatoric", "EU": "epistemic", "TU": "total"}


@dataclass
class MadeCase:
    """Arrays of a case: label maps (z, y, x), probabilities (2, z, y, x), maps by measure."""

    prediction: np.ndarray
    probabilities: np.ndarray
    reference: np.ndarray
    raters: np.ndarray
    samples: np.ndarray
    maps: dict[str, np.ndarray]


class MadeFolders:
    """Folders NAME/pred, NAME/gt and NAME/raters below a root, and their cases under ``cases[NAME][CASE]``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cases: dict[str, dict[str, MadeCase]] = {}

    def copy(self, root: Path) -> MadeFolders:
        """The same files below another root, which may be there, to be changed."""
        made = MadeFolders(shutil.copytree(self.root, root, dirs_exist_ok=True))
        made.cases = dict(self.cases)
        return made

    def add(self, name: str, cases: Sequence[str], *, seed: int, epistemic: float = 1.0) -> None:
        """Make a set; ``epistemic`` scales its EU maps."""
        rng = np.random.default_rng(seed)
        folder = self.root / name
        self.cases[name] = {}
        for case in cases:
            made = _make_case(rng, epistemic)
            self.cases[name][case] = made
            write(folder / "pred" / f"{case}.nii.gz", made.prediction)
            np.savez(folder / "pred" / f"{case}.npz", probabilities=made.probabilities)
            write(folder / "gt" / f"{case}.nii.gz", made.reference)
            for index, rater in enumerate(made.raters):
                write(folder / "raters" / f"{case}_rater{index}.nii.gz", rater)
            for index, sample in enumerate(made.samples):
                write(folder / "pred" / "samples" / f"{case}_{index:03d}.nii.gz", sample)
            for measure, volume in made.maps.items():
                write(folder / "pred" / MAP_FOLDERS[measure] / f"{case}.nii.gz", volume)
        content = {"labels": {"background": 0, "nodule": 1}, "file_ending": ".nii.gz"}
        (folder / "pred" / "dataset.json").write_text(json.dumps(content))

    def change_dataset(self, name: str, **content) -> None:
        """Overwrite entries of a set's dataset.json."""
        path = self.root / name / "pred" / "dataset.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | content))

    def map_file(self, name: str, measure: str, case: str) -> Path:
        return self.root / name / "pred" / MAP_FOLDERS[measure] / f"{case}.nii.gz"

    def options(self, name: str, flag: str = "-pred", *, raters: bool = True) -> list[str]:
        """Options of a set: predictions under ``flag``, -gt, -gt_raters."""
        folder = self.root / name
        rater_option = ["-gt_raters", str(folder / "raters")] if raters else []
        return [flag, str(folder / "pred"), "-gt", str(folder / "gt"), *rater_option]

    def shift_options(self, *names: str, annotated: tuple[str, ...] = ()) -> list[str]:
        """-ood, and -ood_gt and -ood_gt_raters of those that are annotated."""
        options = ["-ood", *(f"{name}={self.root / name / 'pred'}" for name in names)]
        if annotated:
            options += ["-ood_gt", *(f"{name}={self.root / name / 'gt'}" for name in annotated)]
            options += ["-ood_gt_raters", *(f"{name}={self.root / name / 'raters'}" for name in annotated)]
        return options

    def calibrate(self) -> None:
        """Write calibration.json of the set `val`."""
        assert determine_calibration.main([*self.options("val", "-val"), "-np", "1", "--disable_progress_bar"]) == 0

    def evaluate(self, *options, processes: int = 1, out: str = "out") -> int:
        """Evaluate the set `id` into a folder below the root; the exit status."""
        common = ["-np", str(processes), "--no_pictures", "--disable_progress_bar", "-o", str(self.root / out)]
        return evaluate.main([*self.options("id"), *common, *map(str, options)])

    def all_tasks(self) -> list[str]:
        """Options for all tasks; the shift `scanner` has no annotations."""
        validation = str(self.root / "val" / "pred")
        return [*self.shift_options("blur", "scanner", annotated=("blur",)), "-val", validation]

    def summary(self, out: str = "out") -> dict:
        """Content of summary.json."""
        return json.loads((self.root / out / "summary.json").read_text())


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING)
    image.SetOrigin((1.0, -20.0, 300.0))
    sitk.WriteImage(image, str(path))


def _disc(radius: float) -> np.ndarray:
    y, x = np.ogrid[: SHAPE[1], : SHAPE[2]]
    inside = (y - 6) ** 2 + (x - 7) ** 2 <= radius**2
    return np.broadcast_to(inside, SHAPE).astype(np.uint8)


def _make_case(rng: np.random.Generator, epistemic: float) -> MadeCase:
    radius = rng.uniform(2, 4)
    raters = np.stack([_disc(radius + shift) for shift in rng.uniform(-1, 1.5, NUM_RATERS)])
    foreground = np.clip(0.1 + 0.75 * raters.mean(axis=0) + rng.uniform(-0.1, 0.1, SHAPE), 0.01, 0.99)
    probabilities = np.stack([1 - foreground, foreground]).astype(np.float32)
    aleatoric = -(probabilities * np.log(probabilities)).sum(axis=0)
    maps = {"AU": aleatoric, "EU": epistemic * rng.uniform(0.01, 0.1, SHAPE).astype(np.float32)}
    maps["TU"] = maps["AU"] + maps["EU"]
    return MadeCase(
        prediction=probabilities.argmax(axis=0).astype(np.uint8),
        probabilities=probabilities,
        reference=raters[0],
        raters=raters,
        samples=np.stack([_disc(radius + shift) for shift in rng.uniform(-1.5, 1.5, NUM_SAMPLES)]),
        maps={measure: volume.astype(np.float32) for measure, volume in maps.items()},
    )


@pytest.fixture
def made(tmp_path) -> MadeFolders:
    """ID with four cases, val with three; blur has copies of three ID cases, scanner two other cases."""
    folders = MadeFolders(tmp_path)
    _add_all(folders)
    return folders


@pytest.fixture(scope="module")
def made_once(tmp_path_factory) -> MadeFolders:
    """The same, for tests that change no file."""
    folders = MadeFolders(tmp_path_factory.mktemp("made"))
    _add_all(folders)
    return folders


def _add_all(folders: MadeFolders) -> None:
    folders.add("id", ["a", "b", "c", "d"], seed=0)
    folders.add("val", ["v", "w", "x"], seed=1)
    folders.add("blur", ["a", "b", "d"], seed=2, epistemic=1.2)
    folders.add("scanner", ["s", "t"], seed=3, epistemic=1.1)


class _ParserFound(BaseException):
    """Ends a command as soon as it has its parser."""


@pytest.fixture(scope="session")
def parsers():
    """The parser of each command, by name."""

    def found(self, *_):
        raise _ParserFound(self)

    parsers = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", found)
        for file in sorted(COMMANDS.glob("[!_]*.py")):
            name = file.stem
            with pytest.raises(_ParserFound) as caught:
                import_module(f"nnunet_stochastic.commands.{name}").main([])
            parsers[name] = caught.value.args[0]
    return parsers


@pytest.fixture
def write_image():
    """Writes an array on the voxel grid of the made folders."""
    return write
