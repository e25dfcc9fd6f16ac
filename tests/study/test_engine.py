"""A whole study on Snakemake, with programs that take no time: failures, interruptions, restarts, another file."""

import json
import os
import re
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from nnunet_stochastic.study.engine import Engine
from nnunet_stochastic.study.plan import Plan
from tests.study.stand_ins import StandIns

pytest.importorskip("snakemake")
pytestmark = pytest.mark.slow

TOY = "Dataset007_Toy"
TRAIN, PREDICT, EVALUATE = "nnUNetv2_train", "nnunet_stochastic_predict", "nnunet_stochastic_evaluate"
CALIBRATE, COMPARE, REPORT = (f"nnunet_stochastic_{name}" for name in ("determine_calibration", "compare", "report"))


def counted(calls):
    names = Counter(name for name, *_ in calls)
    return {name: names[name] for name in (TRAIN, PREDICT, CALIBRATE, EVALUATE, COMPARE, REPORT) if names[name]}


def test_every_job_runs_once_and_no_more_the_second_time(done_at_once):
    study, printed = done_at_once
    # Softmax/ensemble, SSN/none twice and SSN/ensemble, on three sets.
    assert counted(study.calls()) == {TRAIN: 4, PREDICT: 12, CALIBRATE: 4, EVALUATE: 4, COMPARE: 1, REPORT: 1}
    assert "26/26 evaluate" in printed
    assert str(study.output / "report.html") in printed
    before = study.results()
    printed = study.run()
    assert study.calls() == []
    assert "jobs are to be done" not in printed
    assert study.results() == before
    table = study.run("--dry_run")
    assert "0 jobs to do" in table


def test_changes_run_what_they_change(stand_ins, done_at_once):
    stand_ins.run()
    assert stand_ins.results() == done_at_once[0].results()  # another folder, other processes
    stand_ins.calls()
    first = stand_ins.file.read_text()

    stand_ins.file.write_text(first.replace("num_samples: 4", "num_samples: 5"))
    printed = stand_ins.run()
    assert f"again: predict {TOY}/SSN/none/seed_0/ID: its commands have changed" in printed
    assert counted(stand_ins.calls()) == {PREDICT: 12, CALIBRATE: 4, EVALUATE: 4, COMPARE: 1, REPORT: 1}

    (stand_ins.output / "evaluations" / TOY / "SSN" / "none" / "seed_1" / "cases.csv").unlink()
    stand_ins.run()
    assert counted(stand_ins.calls()) == {EVALUATE: 1, COMPARE: 1, REPORT: 1}

    # A seed more: two trainings, one model of one seed and the ensembles, which have a member more.
    stand_ins.file.write_text(first.replace("num_samples: 4", "num_samples: 5").replace("seeds: 2", "seeds: 3"))
    stand_ins.run()
    assert len(json.loads((stand_ins.folder / "preprocessed" / TOY / "splits_final.json").read_text())) == 3
    assert counted(stand_ins.calls()) == {TRAIN: 2, PREDICT: 9, CALIBRATE: 3, EVALUATE: 3, COMPARE: 1, REPORT: 1}


def test_a_failure_does_not_stop_the_rest(stand_ins, done_at_once):
    stand_ins.fail("Softmax")
    printed = stand_ins.run(status=1)
    for seed in (0, 1):
        log = stand_ins.output / "logs" / "train" / TOY / "nnUNetTrainerSoftmax" / f"seed_{seed}.log"
        assert f"failed: train {TOY}/nnUNetTrainerSoftmax/seed_{seed}, {log}" in printed
    assert "  | this one fails" in printed
    assert f"  not run because of it: evaluate {TOY}/Softmax/ensemble/all_seeds" in printed
    assert "2 jobs failed, 5 were not run because of them, all others are done" in printed
    runs = (stand_ins.output / "runs.csv").read_text().splitlines()
    assert len(runs) == 1 + 4  # SSN/none of two seeds, SSN/ensemble for each of them
    assert (stand_ins.output / "comparison" / "comparison.csv").is_file()
    assert (stand_ins.output / "report.html").is_file()

    stand_ins.calls()
    stand_ins.succeed()
    stand_ins.run()
    calls = stand_ins.calls()
    assert counted(calls) == {TRAIN: 2, PREDICT: 3, CALIBRATE: 1, EVALUATE: 1, COMPARE: 1, REPORT: 1}
    assert not any("nnUNetTrainerSSN" in words for words in calls)
    assert stand_ins.results() == done_at_once[0].results()


def test_a_dataset_that_cannot_be_made_does_not_stop_the_other(stand_ins):
    more = "  - {dataset: 8, convert: make_dataset Dataset008_Other, configuration: 2d, raters: false, ood: [far]}\n"
    stand_ins.file.write_text(
        stand_ins.file.read_text()
        .replace("[Softmax, SSN]", "[SSN]")
        .replace("exclude: [Softmax/none]\n", "")
        .replace("[none, ensemble]", "[none]")
        + more
    )
    stand_ins.fail("Dataset008_Other")
    printed = stand_ins.run(status=1)
    assert "failed: convert Dataset008" in printed
    assert "not run because of it: plan Dataset008" in printed
    assert counted(stand_ins.calls()) == {TRAIN: 2, PREDICT: 6, CALIBRATE: 2, EVALUATE: 2, COMPARE: 1, REPORT: 1}
    assert not list((stand_ins.folder / "preprocessed").glob("Dataset008*"))
    stand_ins.succeed()
    stand_ins.run()
    assert counted(stand_ins.calls()) == {TRAIN: 2, PREDICT: 6, CALIBRATE: 2, EVALUATE: 2, COMPARE: 1, REPORT: 1}


def test_interrupted_at_several_moments_the_result_is_the_same(stand_ins, done_at_once):
    results = stand_ins.folder / "results"
    moments = (
        lambda: (stand_ins.folder / "preprocessed").exists() and list((stand_ins.output / "begun").rglob("Dataset*")),
        lambda: len(list(results.rglob("epoch_*"))) >= 2,
        lambda: len(list((stand_ins.output / "predictions").rglob("case.png"))) >= 3,
        lambda: list((stand_ins.output / "evaluations").rglob("summary.json")),
        lambda: (stand_ins.output / "runs.csv").exists(),
    )
    for moment in moments:
        process = stand_ins.start(seconds=0.15)
        stand_ins.wait_for(moment, process)
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    stand_ins.run()
    assert stand_ins.results() == done_at_once[0].results()


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path(f"/proc/self/task/{os.getpid()}/children").exists(), reason="looks for processes in /proc")
def test_trainings_that_outlive_the_engine_are_waited_for(stand_ins, done_at_once):
    process = stand_ins.start(seconds=1)
    stand_ins.wait_for(lambda: len(list((stand_ins.output / "begun" / "train").rglob("*.json"))) == 4, process)
    (engine,) = children(process.pid)
    for pid in (process.pid, engine):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    printed = stand_ins.run()
    assert "done: " in printed
    assert counted(stand_ins.calls())[TRAIN] == 4
    assert stand_ins.results() == done_at_once[0].results()


def test_a_second_start_says_that_there_is_a_first(stand_ins):
    process = stand_ins.start(seconds=1)
    stand_ins.wait_for((stand_ins.output / "begun").exists, process)
    assert f"another command writes {stand_ins.output}: wait until it has ended" in stand_ins.run(status=1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_an_error_of_snakemake_itself_is_shown(stand_ins):
    printed = stand_ins.run("--", "--executor", "no_such_plugin", status=1)
    assert "Snakemake failed" in printed
    assert "no_such_plugin" in printed


def asked(study, *, on_cluster):
    """Threads and resources that Snakemake would ask for, by kind."""
    plan = Plan.read(study.file)
    command = Engine(4, (), None, ("--dry-run",), on_cluster).command(plan, ["evaluate"])
    done = subprocess.run(command, env=study.environment, cwd=study.folder, capture_output=True, text=True, check=True)
    found = {}
    for rule in done.stdout.split("\nrule ")[1:]:
        threads = re.search(r"^    threads: (\d+)", rule, re.MULTILINE)
        resources = re.search(r"^    resources: (.*)$", rule, re.MULTILINE)
        kind, _, _ = rule.partition(":")
        names = dict(part.split("=") for part in resources[1].split(", ")) if resources else {}
        found[kind] = {"threads": threads[1] if threads else "1"} | {
            name: value for name, value in names.items() if name in ("gpu", "gres", "mem_mb", "runtime")
        }
    return found


def test_what_jobs_ask_for(stand_ins, monkeypatch):
    stand_ins.run("--until", "convert")
    for name, value in stand_ins.environment.items():
        monkeypatch.setenv(name, value)
    text = stand_ins.file.read_text().replace("device: cpu", "device: cuda")
    more = 'resources: {predict: {gres: "gpu:a100:1", threads: 3}, evaluate: {mem_mb: 500, runtime: 7}}\n'
    stand_ins.file.write_text(text + more)
    found = asked(stand_ins, on_cluster=True)
    assert found["train"] == {"threads": "4", "gpu": "1", "mem_mb": "32000", "runtime": "1440"}  # 12, of --cores 4
    assert found["predict"] == {"threads": "3", "gres": "gpu:a100:1", "mem_mb": "32000", "runtime": "720"}
    assert found["evaluate"] == {"threads": "1", "mem_mb": "500", "runtime": "7"}
    assert found["plan"] == {"threads": "1", "mem_mb": "16000", "runtime": "720"}
    assert asked(stand_ins, on_cluster=False)["train"]["threads"] == "1"


@pytest.mark.parametrize("name", ["run #1", "a: b", "it's {one}"])
def test_folders_may_have_any_name(tmp_path, name):
    study = StandIns(tmp_path / "programs")  # in PYTHONPATH, which a colon would split
    folder = tmp_path / name
    folder.mkdir()
    study.file, study.output = study.file.rename(folder / "study.yaml"), folder / "out"
    (folder / "inspect.py").write_text("raise RuntimeError('not of Python')\n")
    study.run("--until", "plan")
    assert (study.output / "done" / "plan" / f"{TOY}.json").is_file()
