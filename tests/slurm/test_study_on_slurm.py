"""examples/tiny on a cluster of this machine: killed with one of its jobs, and started again to the report."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.slurm.cluster import missing, running_cluster
from tests.study.stand_ins import StandIns
from tests.test_study_tiny import DATASET, LIMIT_SECONDS, Study

pytest.importorskip("snakemake")
pytest.importorskip("snakemake_executor_plugin_slurm")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

ON_SLURM = ("--", "--executor", "slurm", "--jobs", "2", "--slurm-init-seconds-before-status-checks", "2")
#: One model with and without ensemble, and no shifted set: each job takes ten seconds more than on this machine alone.
LESS = {
    "[Softmax, SSN]": "[SSN]",
    "[none, ensemble, dropout, swag]": "[none, ensemble]",
    "exclude: [Softmax/none]\n": "",
    "    corruptions: [blur]\n": "",
}


@pytest.fixture
def cluster():
    with running_cluster() as environment:
        yield environment


def jobs_of(environment: dict[str, str], states: str) -> list[tuple[str, str, str, str]]:
    """Number, kind and name, limit of time and memory of jobs in some states."""
    command = ["squeue", "--noheader", f"--states={states}", "--format=%i|%k|%l|%m"]
    lines = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    return [tuple(line.split("|")) for line in lines]


def wait_until(condition, process: subprocess.Popen, output) -> None:
    end = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert process.poll() is None, output()
        assert time.monotonic() < end, output()
        time.sleep(0.2)


def test_tiny_study_on_slurm(tmp_path, cluster):
    study = Study(tmp_path / "study")
    study.environment |= {name: cluster[name] for name in ("PATH", "SLURM_CONF")}
    text = (study.folder / "tiny.yaml").read_text()
    for part, other in LESS.items():
        assert part in text
        text = text.replace(part, other)
    (study.folder / "tiny.yaml").write_text(text)

    process = study.start(*ON_SLURM)
    wait_until(study.in_training, process, lambda: study.output)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    training = {comment: number for number, comment, *_ in jobs_of(cluster, "RUNNING") if "rule_train" in comment}
    assert training
    # One job is killed with its study; a second one, if there was time to start it, outlives both.
    subprocess.run(["scancel", min(training.values(), key=int)], env=cluster, check=True)
    assert study.start(*ON_SLURM).wait(LIMIT_SECONDS) == 0, study.output

    assert len(study.trained()) == 2
    summaries = sorted((study.results / "evaluations" / DATASET).glob("*/*/*/summary.json"))
    assert len(summaries) == 3
    for path in summaries:
        assert json.loads(path.read_text())["results"]["raters"]["all classes"]["mean"]["dice"] > 0.2, path
    assert "Tiny study" in (study.results / "report.html").read_text()
    records = [json.loads(path.read_text()) for path in (study.results / "done" / "predict").rglob("*.json")]
    assert len(records) == 6
    assert all(100 < record["memory_mib"] < 6000 and record["seconds"] > 1 for record in records)

    log = (study.results / "logs" / "snakemake.log").read_text()
    asked = dict(
        re.findall(r"^rule (\w+):\n(?:    .*\n)*?    resources: .*?(runtime=\d+, mem_mb=\d+)", log, re.MULTILINE)
    )
    assert asked["train"] == "runtime=31, mem_mb=6000"  # 2 · 0.5 min + 30 min, and what the study says
    assert asked["report"] == "runtime=31, mem_mb=6000"
    assert "No wall time information" not in log
    assert "No job memory information" not in log
    assert "gpu=" not in log


def test_what_slurm_refuses_and_ends_is_said_with_its_reason(tmp_path, cluster):
    study = StandIns(tmp_path)
    study.environment |= {name: cluster[name] for name in ("PATH", "SLURM_CONF")}
    study.environment.pop("nnUNet_n_proc_DA", None)
    small = "[SSN]", "[none]", "seeds: 1"
    text = study.file.read_text()
    for part, other in zip(("[Softmax, SSN]", "[none, ensemble]", "seeds: 2"), small, strict=True):
        text = text.replace(part, other)
    text = text.replace("exclude: [Softmax/none]\n", "")
    limits = ["convert: {mem_mb: 2000}", "plan: {mem_mb: 2000}", "sets: {mem_mb: 60}", "train: {mem_mb: 2000}"]
    study.file.write_text(f"{text}resources: {{{', '.join(limits)}}}\n")
    printed = study.run("--until", "train", *ON_SLURM, status=1)
    assert "failed: train Dataset007_Toy/nnUNetTrainerSSN/seed_0: sbatch refused it: " in printed
    assert "More processors requested than permitted" in printed  # as many as nnU-Net augments with, 12
    assert "what it asks for is in resources: {train: …}" in printed

    study.file.write_text(study.file.read_text().replace("train: {", "train: {threads: 1, "))
    printed = study.run("--until", "predict", *ON_SLURM, status=1)
    assert re.search(r"failed: sets Dataset007_Toy/validation: job \d+ ended as \w+, reason \w+, after", printed)
    assert "exceeded memory limit" in printed
    assert Path(study.output / "done" / "train" / "Dataset007_Toy" / "nnUNetTrainerSSN" / "seed_0.json").is_file()
