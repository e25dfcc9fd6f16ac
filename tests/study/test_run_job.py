"""One job: resumed where it was interrupted, begun anew when it is another one, never run twice at a time."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from nnunet_stochastic import processes
from nnunet_stochastic.processes import CommandFailed
from nnunet_stochastic.study.locks import locked, take_places
from nnunet_stochastic.study.plan import Plan
from nnunet_stochastic.study.run_job import GPUS_VARIABLE, run

pytest.importorskip("yaml")

DATASET = "Dataset007_Toy"
SSN = f"{DATASET}/nnUNetTrainerSSN"


@pytest.fixture
def toy(stand_ins, monkeypatch):
    """The study of stand-ins with its dataset and plans, run in this process."""
    for name, value in stand_ins.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(
        processes, "find_program", lambda name, environment: (str(stand_ins.bin / Path(name).name), environment["PATH"])
    )
    run(stand_ins.file, "convert", "Dataset007")
    stand_ins.calls()
    return stand_ins


def names(calls):
    return [Path(name).name for name, *_ in calls]


def test_commands_that_are_done_are_left_out(toy):
    toy.fail("nnUNetv2_preprocess")
    with pytest.raises(CommandFailed, match=r"nnUNetv2_preprocess ended with exit status 1:\n.*\n  \| this one fails"):
        run(toy.file, "plan", DATASET)
    assert names(toy.calls()) == ["nnUNetv2_plan_and_preprocess", "nnUNetv2_preprocess"]
    log = (toy.output / "logs" / "plan" / f"{DATASET}.log").read_text()
    assert "this one fails" in log
    assert "== failed" in log

    # What the interrupted command left may look complete; it is run again.
    data = toy.folder / "preprocessed" / DATASET / "d"
    data.mkdir()
    (data / "case.pkl").write_text("half")
    toy.succeed()
    run(toy.file, "plan", DATASET)
    assert names(toy.calls()) == ["nnUNetv2_preprocess", Path(sys.executable).name]
    done = json.loads((toy.output / "done" / "plan" / f"{DATASET}.json").read_text())
    assert done["how"]["commands"][0][0] == "nnUNetv2_plan_and_preprocess"
    assert done["seconds"] > 0
    assert done["memory_mib"] > 1
    assert done["resumed"]  # its time is that of the last part

    run(toy.file, "plan", DATASET)
    assert toy.calls() == []
    (toy.output / "done" / "plan" / f"{DATASET}.json").unlink()
    run(toy.file, "plan", DATASET)  # plans, cases and splits are complete
    assert toy.calls() == []


@pytest.mark.parametrize("content", [b"", b'{"how": {', bytes(100), b"[]"])
@pytest.mark.parametrize("folder", ["done", "begun"])
def test_a_record_that_a_power_cut_damaged_is_none(toy, folder, content):
    run(toy.file, "plan", DATASET)
    toy.calls()
    (toy.output / folder / "plan" / f"{DATASET}.json").write_bytes(content)
    plan = Plan.read(toy.file)
    jobs = plan.current_jobs()
    stale = plan.records.stale(jobs)
    if folder == "begun":
        assert plan.records.is_done(jobs["plan", DATASET])
        assert ("plan", DATASET) not in stale
        return
    assert not plan.records.is_done(jobs["plan", DATASET])
    assert not plan.records.is_recorded(("plan", DATASET))
    assert stale["plan", DATASET].endswith(f"{DATASET}.json cannot be read")
    plan.records.forget(stale)
    assert not plan.records.done(("plan", DATASET)).exists()
    run(toy.file, "plan", DATASET)
    assert toy.calls() == []  # plans, cases and splits are complete


def test_an_empty_product_is_none(toy):
    run(toy.file, "plan", DATASET)
    job = Plan.read(toy.file).jobs["plan", DATASET]
    file = next(path for path in job.products if path.is_file())
    file.write_bytes(b"")
    assert not Plan.read(toy.file).records.is_done(job)


def test_a_trained_model_is_taken_as_it_is(toy):
    run(toy.file, "plan", DATASET)
    run(toy.file, "train", f"{SSN}/seed_0")
    toy.calls()
    (toy.output / "done" / "train" / SSN / "seed_0.json").unlink()
    run(toy.file, "train", f"{SSN}/seed_0")
    assert toy.calls() == []
    assert Plan.read(toy.file).records.seconds(("train", f"{SSN}/seed_0")) is None  # nothing was measured


def test_checkpoints_that_a_kill_cut_off_are_deleted_before_the_training_goes_on(toy):
    run(toy.file, "plan", DATASET)
    toy.fail("nnUNetv2_train")
    folder = toy.folder / "results" / DATASET / "nnUNetTrainerSSN__nnUNetPlans__2d" / "fold_0"
    folder.mkdir(parents=True)
    with pytest.raises(CommandFailed):
        run(toy.file, "train", f"{SSN}/seed_0")
    with zipfile.ZipFile(folder / "checkpoint_best.pth", "w") as archive:
        archive.writestr("weights", "1 2 3")
    whole = (folder / "checkpoint_best.pth").read_bytes()
    for name in ("latest", "final"):
        (folder / f"checkpoint_{name}.pth").write_bytes(whole[:-30])
    toy.succeed()
    run(toy.file, "train", f"{SSN}/seed_0")
    assert sorted(file.name for file in folder.glob("*.pth")) == ["checkpoint_best.pth", "checkpoint_final.pth"]
    assert (folder / "checkpoint_best.pth").read_bytes() == whole
    assert zipfile.is_zipfile(folder / "checkpoint_final.pth")
    assert (
        "checkpoint_latest.pth was cut short by an interruption"
        in (toy.output / f"logs/train/{SSN}/seed_0.log").read_text()
    )


def test_a_job_that_is_another_one_now_begins_anew(toy):
    for kind, name in [("plan", DATASET), ("train", f"{SSN}/seed_0")]:
        run(toy.file, kind, name)
    label = f"{DATASET}/SSN/none/seed_0/ID"
    folder = toy.output / "predictions" / label
    toy.fail("nnunet_stochastic_predict")
    for _ in range(2):
        with pytest.raises(CommandFailed):
            run(toy.file, "predict", label)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "half.png").write_text("of the first kind")  # the second time it is there already
    text = toy.file.read_text()
    toy.file.write_text(text.replace("{num_samples: 4}", "{num_samples: 4, npp: 1}"))
    with pytest.raises(CommandFailed):
        run(toy.file, "predict", label)
    assert (folder / "half.png").exists()
    toy.file.write_text(text.replace("{num_samples: 4}", "{num_samples: 5}"))
    with pytest.raises(CommandFailed):
        run(toy.file, "predict", label)
    assert not folder.exists()


def test_a_program_that_leaves_something_out(toy, monkeypatch):
    run(toy.file, "plan", DATASET)
    nothing = shutil.which("true")
    monkeypatch.setattr(processes, "find_program", lambda name, environment: (nothing, environment["PATH"]))
    with pytest.raises(ChildProcessError, match=r"ended well, but .*checkpoint_final\.pth is not there"):
        run(toy.file, "train", f"{SSN}/seed_0")
    assert not (toy.output / "done" / "train").exists()


def test_no_such_job(toy):
    with pytest.raises(ValueError, match="no such job any more; start the study again"):
        run(toy.file, "plan", "Dataset008_Other")


def start(toy, kind, name, seconds):
    environment = {**toy.environment, "STAND_IN_SECONDS": str(seconds)}
    words = [sys.executable, "-m", "nnunet_stochastic.study.run_job", str(toy.file), kind, name]
    return subprocess.Popen(words, env=environment)


def test_a_survivor_is_waited_for_and_not_run_twice(toy):
    run(toy.file, "plan", DATASET)
    toy.calls()
    survivor = start(toy, "train", f"{SSN}/seed_0", 0.3)
    toy.wait_for((toy.bin / "calls").exists, survivor)
    done = toy.output / "done" / "train" / SSN / "seed_0.json"
    assert not done.exists()
    run(toy.file, "train", f"{SSN}/seed_0")
    assert done.exists()
    assert survivor.wait() == 0
    assert names(toy.calls()) == ["nnUNetv2_train"]


def test_the_end_of_a_job_is_that_of_its_command(toy, capsys):
    run(toy.file, "plan", DATASET)
    toy.calls()
    job = start(toy, "train", f"{SSN}/seed_0", 60)
    toy.wait_for((toy.bin / "calls").exists, job)
    job.send_signal(signal.SIGTERM)
    assert job.wait(30) == 128 + signal.SIGTERM
    with locked(Plan.read(toy.file).records.lock(("train", f"{SSN}/seed_0")), waiting_for="it"):
        assert capsys.readouterr().err == ""
    assert not (toy.output / "done" / "train").exists()


def test_places_are_taken_by_one_at_a_time(tmp_path):
    files = [tmp_path / f"gpu_{index}.lock" for index in range(3)]
    with ExitStack() as first, ExitStack() as second:
        assert take_places(first, files, 2) == [0, 1]
        assert take_places(second, files, 1) == [2]
        with ExitStack() as third:
            found = []
            waiting = threading.Thread(target=lambda: found.extend(take_places(third, files, 2)))
            waiting.start()
            second.close()  # one is free, two are asked for
            waiting.join(1.2)
            assert waiting.is_alive()
            first.close()
            waiting.join(30)
            assert found == [0, 1]


def test_a_job_sees_the_gpu_that_it_holds(toy, monkeypatch):
    toy.file.write_text(toy.file.read_text().replace("device: cpu", "device: cuda"))
    run(toy.file, "plan", DATASET)
    monkeypatch.setenv(GPUS_VARIABLE, "4,7")
    locks = Plan.read(toy.file).study.output / "locks" / "gpus"
    run(toy.file, "train", f"{SSN}/seed_0")
    (first,) = sorted(locks.glob("*_0.lock"))
    with locked(first, waiting_for="nobody"):
        run(toy.file, "train", f"{SSN}/seed_1")
    for seed, gpu in ((0, 4), (1, 7)):
        assert f"--c {gpu}\n" in (toy.output / f"logs/train/{SSN}/seed_{seed}.log").read_text()
    assert "splits" in (log := (toy.output / f"logs/plan/{DATASET}.log").read_text())
    assert "CUDA" not in log
