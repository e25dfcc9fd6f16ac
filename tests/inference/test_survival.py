"""What a prediction leaves behind when it is interrupted, when a file is damaged, and when the disk is full."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_stochastic.inference import PredictionOptions, StochasticPredictor, predict_folder
from nnunet_stochastic.inference.cases import OutputFolder
from nnunet_stochastic.training import LowRankTrainer

NAMES = ("a", "b", "c", "d")
OPTIONS = PredictionOptions(num_samples=2, mirroring=False, num_saved_samples=2)


class Interrupted(BaseException):
    """Like an interruption from outside: nothing catches it on its way."""


@pytest.fixture
def images(tmp_path, folders):
    for seed, name in enumerate(NAMES):
        folders.write_image(tmp_path / "images" / f"{name}_0000.nii.gz", folders.image_array(seed, (14, 16, 15)))
    return tmp_path / "images"


@pytest.fixture
def predictor(tmp_path, folders, find_trainer):
    model = folders.write_model_folder(tmp_path / "model", trainer=find_trainer(LowRankTrainer))
    return StochasticPredictor.from_model_folder(model, folds=(0,), options=OPTIONS)


def predict(predictor, images, out, **options):
    options = {"preprocessing_threads": 0, "export_threads": 0, "save_probabilities": True, **options}
    return predict_folder(predictor, images, out, **options)


def contents(folder) -> dict[str, bytes]:
    """All files but those that name the folder."""
    skipped = {"predict_from_raw_data_args.json"}
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in skipped]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_interrupted_before_any_rename_or_removal_and_continued(predictor, images, tmp_path, monkeypatch):
    predict(predictor, images, tmp_path / "reference")
    reference = contents(tmp_path / "reference")
    replace, calls = os.replace, []
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append(paths), replace(*paths)))
    predict(predictor, images, tmp_path / "counted")
    assert len(calls) > 4 * 9  # each file of each case is moved

    for stop_at in range(0, len(calls), 7):
        out, count = tmp_path / f"interrupted_{stop_at}", 0

        def replace_until_then(source, target, stop_at=stop_at):
            nonlocal count
            count += 1
            if count > stop_at:
                raise Interrupted
            replace(source, target)

        monkeypatch.setattr(os, "replace", replace_until_then)
        monkeypatch.setattr(OutputFolder, "discard", lambda *_: None)  # an interrupted process tidies nothing up
        with pytest.raises(Interrupted):
            predict(predictor, images, out)
        monkeypatch.undo()
        complete = sorted(path.name for path in out.glob("*.nii.gz"))
        for name in complete:
            assert (out / name).read_bytes() == reference[name]
        predict(predictor, images, out, continue_prediction=True)
        assert contents(out) == reference


@pytest.mark.slow
def test_kill_of_the_process_at_random_moments(tmp_path, folders, images):
    """Of a real process, through nnU-Net's own search for the trainer."""
    model = folders.write_model_folder(
        tmp_path / "model", trainer=recursive_find_trainer_class_by_name("nnUNetTrainerLowRank")
    )
    program = (
        "import sys\n"
        "from nnunet_stochastic.inference import *\n"
        "options = PredictionOptions(num_samples=2, mirroring=False, num_saved_samples=2)\n"
        f"p = StochasticPredictor.from_model_folder({str(model)!r}, folds=(0,), options=options)\n"
        "print('ready', flush=True)\n"
        f"predict_folder(p, {str(images)!r}, sys.argv[1], save_probabilities=True, continue_prediction=True)\n"
    )

    def start(out):
        process = subprocess.Popen([sys.executable, "-c", program, str(out)], stdout=subprocess.PIPE, text=True)
        assert "ready\n" in iter(process.stdout.readline, "")
        return process

    process = start(tmp_path / "reference")
    began = time.monotonic()
    assert process.wait() == 0
    duration = time.monotonic() - began
    out = tmp_path / "killed"
    for moment in np.random.default_rng(0).uniform(0, duration, 3):
        process = start(out)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(out).wait() == 0
    assert contents(out) == contents(tmp_path / "reference")


def test_truncated_and_unreadable_images_in_the_middle(predictor, images, tmp_path):
    predict(predictor, images, tmp_path / "reference")
    reference = contents(tmp_path / "reference")
    whole = (images / "b_0000.nii.gz").read_bytes()
    (images / "b_0000.nii.gz").write_bytes(whole[: len(whole) // 2])
    (images / "c_0000.nii.gz").write_bytes(b"no image")
    report = predict(predictor, images, tmp_path / "out")
    assert sorted(report.failures) == ["b", "c"]
    assert all(f"{name}_0000.nii.gz" in reason for name, reason in report.failures.items())
    written = contents(tmp_path / "out")
    kept = {name for name in reference if "." not in name.split("/")[-1][:1] and name.split("/")[-1][0] in "ad"}
    assert all(written[name] == reference[name] for name in kept)
    assert not [name for name in written if name.split("/")[-1].startswith(("b", "c", ".b", ".c"))]

    (images / "b_0000.nii.gz").write_bytes(whole)
    predict(predictor, images, tmp_path / "out", continue_prediction=True)
    assert contents(tmp_path / "out")["b.nii.gz"] == reference["b.nii.gz"]


@pytest.mark.parametrize("threads", [0, 2])
def test_a_full_disk(predictor, images, tmp_path, monkeypatch, threads):
    """ITK says nothing of it: the file is simply too short."""
    write, written = sitk.WriteImage, []

    def write_half(image, path, *options):
        write(image, path, *options)
        written.append(path)
        if f"/.b.unfinished-{os.getpid()}/" in path:
            os.truncate(path, os.path.getsize(path) // 2)

    monkeypatch.setattr(sitk, "WriteImage", write_half)
    report = predict(predictor, images, tmp_path / "out", preprocessing_threads=threads, export_threads=threads)
    assert list(report.failures) == ["b"]
    assert "was cut short while it was written" in report.failures["b"]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == ["a.nii.gz", "c.nii.gz", "d.nii.gz"]
    assert sorted(json.loads((tmp_path / "out" / "uncertainty.json").read_text())["cases"]) == ["a", "c", "d"]
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.startswith(("b", ".b"))]


@pytest.mark.parametrize("threads", [0, 2])
def test_a_sample_that_cannot_be_written(predictor, images, tmp_path, monkeypatch, threads):
    write = sitk.WriteImage

    def fail(image, path, *options):
        if f"/.b.unfinished-{os.getpid()}/samples/" in path:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(image, path, *options)

    monkeypatch.setattr(sitk, "WriteImage", fail)
    report = predict(predictor, images, tmp_path / "out", export_threads=threads)
    assert report.failures == {"b": "[Errno 28] No space left on device"}
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == ["a.nii.gz", "c.nii.gz", "d.nii.gz"]
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.startswith(("b", ".b"))]


def test_a_record_that_cannot_be_written(predictor, images, tmp_path, monkeypatch):
    """The case is then not complete either: its entry and its segmentation go together."""
    replace = os.replace

    def full(source, target):
        if str(target).endswith("uncertainty.json") and (tmp_path / "out" / "variance" / "b.nii.gz").is_file():
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    report = predict(predictor, images, tmp_path / "out")
    assert "b" in report.failures
    assert not (tmp_path / "out" / "b.nii.gz").exists()
    monkeypatch.undo()
    assert predict(predictor, images, tmp_path / "out", continue_prediction=True).failures == {}
    assert sorted(json.loads((tmp_path / "out" / "uncertainty.json").read_text())["cases"]) == list(NAMES)


def test_a_worker_that_dies(predictor, images, tmp_path, monkeypatch):
    """Workers are threads; what ends one, such as a lack of memory, ends its case alone."""
    read = predictor.preprocess

    def die(image, properties, **options):
        if (tmp_path / "died").exists():
            return read(image, properties, **options)
        (tmp_path / "died").touch()
        raise MemoryError

    monkeypatch.setattr(predictor, "preprocess", die)
    report = predict(predictor, images, tmp_path / "out", preprocessing_threads=1, export_threads=1)
    assert report.failures == {"a": "MemoryError"}
    assert sorted(report.cases) == ["b", "c", "d"]


def test_samples_and_maps_of_an_earlier_prediction_do_not_stay(predictor, images, tmp_path):
    predict(predictor, images, tmp_path / "out")
    options = PredictionOptions(num_samples=2, mirroring=False, num_saved_samples=1, maps=("total",))
    fewer = StochasticPredictor(predictor.model, options=options)
    predict(fewer, images, tmp_path / "out", save_probabilities=False)
    predict(fewer, images, tmp_path / "fresh", save_probabilities=False)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


@pytest.mark.parametrize("threads", [(0, 0), (3, 2)])
@pytest.mark.parametrize("parts", [1, 3])
def test_samples_are_the_same_files_whatever_shares_the_work(predictor, images, tmp_path, threads, parts):
    predict(predictor, images, tmp_path / "reference")
    for part in reversed(range(parts)):
        predict(
            predictor,
            images,
            tmp_path / "out",
            preprocessing_threads=threads[0],
            export_threads=threads[1],
            num_parts=parts,
            part_id=part,
        )
    shared = {name: data for name, data in contents(tmp_path / "out").items() if "_part" not in name}
    assert shared == contents(tmp_path / "reference")
    assert len([name for name in shared if name.startswith("samples/")]) == 8


def test_samples_are_added_by_continuing(predictor, images, tmp_path):
    options = PredictionOptions(num_samples=2, mirroring=False)
    predict(StochasticPredictor(predictor.model, options=options), images, tmp_path / "out")
    assert not (tmp_path / "out" / "samples").exists()
    predict(predictor, images, tmp_path / "out", continue_prediction=True)
    predict(predictor, images, tmp_path / "reference")
    assert contents(tmp_path / "out") == contents(tmp_path / "reference")
