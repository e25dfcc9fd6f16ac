"""Failures that Snakemake's log and SLURM tell of, and what the plug-in is told: with stand-ins of SLURM's programs."""

import os
import sys
from pathlib import Path

import pytest

from nnunet_stochastic.study import slurm
from nnunet_stochastic.study.slurm import Failure, FailureLog, plug_in_options, uses_slurm

REFUSED = """\
[Thu Nov 26 11:17:09 2026]
Error in rule plan:
    message: SLURM sbatch failed. The error message was 'sbatch: error: Memory specification can not be satisfied
sbatch: error: Batch job submission failed: Requested node configuration is not available'.
    sbatch call:
        sbatch --parsable --wrap="python -m snakemake"
For further error details see the cluster/cloud log and the log files of the involved rule(s).
    jobid: 5
    input: done/convert/Dataset007.json
    output: done/plan/Dataset007_Toy.json
    shell:
        python -P -m nnunet_stochastic.study.run_job study.yaml plan Dataset007_Toy
        (command exited with non-zero exit code)
"""
ENDED = """\
Error in rule train:
    message: SLURM-job '{number}' failed, SLURM status is: 'TIMEOUT'. Detailed failure reason unavailable.
    jobid: 1
    output: done/train/Dataset007_Toy/nnUNetTrainerSSN/seed_0.json
    log: {log} (check log file(s) for error details)
    shell:
        python -P -m nnunet_stochastic.study.run_job study.yaml train Dataset007_Toy/nnUNetTrainerSSN/seed_0
        (command exited with non-zero exit code)
    external_jobid: {number}
"""
LOCAL = """\
Error in rule sets:
    message: None
    jobid: 2
    output: done/sets/Dataset007_Toy/validation.json
"""
#: scontrol of a cluster that knows job 7.
SCONTROL = """#!{python} -SE
import sys
if sys.argv[1:] == ["show", "config"]:
    print("ClusterName = test\\nAccountingStorageType   = {accounting}")
elif sys.argv[1:] == ["show", "job", "--oneliner", "7"]:
    print("JobId=7 JobName=a JobState=TIMEOUT Reason=TimeLimit RunTime=00:31:05 TimeLimit=00:31:00 NodeList=node1")
else:
    sys.exit("slurm_load_jobs error: Invalid job id specified")
"""
TRAINING = ("train", "Dataset007_Toy/nnUNetTrainerSSN/seed_0")


@pytest.fixture
def environment(tmp_path):
    """SLURM's programs on a PATH of their own."""

    def write(accounting="accounting_storage/none", programs=("scontrol", "sbatch")):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        for name in programs:
            (folder / name).write_text(SCONTROL.format(python=sys.executable, accounting=accounting))
            (folder / name).chmod(0o755)
        return {"PATH": str(folder)}

    return write


@pytest.fixture
def log(tmp_path):
    file = tmp_path / "snakemake.log"
    file.write_text(REFUSED.replace("plan", "sets"))  # of an earlier run
    return file


def append(file: Path, text: str) -> None:
    with file.open("a") as stream:
        stream.write(text)


def test_failures_as_the_log_grows(log, environment, tmp_path):
    failures = FailureLog(log, environment())
    assert failures.read() == []
    append(log, REFUSED[:150])
    assert failures.read() == []
    append(log, REFUSED[150:] + LOCAL.replace("message: None\n", ""))
    assert failures.read() == []  # it may go on
    (refused,) = failures.read()
    assert refused == Failure(
        ("plan", "Dataset007_Toy"),
        "sbatch refused it: sbatch: error: Memory specification can not be satisfied; sbatch: error: Batch job "
        "submission failed: Requested node configuration is not available; what it asks for is in resources: "
        "{plan: …}",
        None,
    )
    assert failures.read() == []
    job_log = tmp_path / "7.log"
    job_log.write_text("epoch 3\nslurmstepd-node1: error: *** JOB 7 CANCELLED DUE TO TIME LIMIT ***\n")
    append(log, ENDED.format(number=7, log=job_log))
    (ended,) = failures.read(at_end=True)
    assert ended == Failure(
        TRAINING,
        "job 7 ended as TIMEOUT, reason TimeLimit, after 00:31:05 of 00:31:00 on node1; give it more: resources: "
        "{train: {runtime: …}}; started again, it goes on from what is there; *** JOB 7 CANCELLED DUE TO TIME "
        "LIMIT ***",
        job_log,
    )


def test_a_job_that_slurm_has_forgotten(log, environment):
    failures = FailureLog(log, environment())
    append(log, ENDED.format(number=8, log="gone.log"))
    (ended,) = failures.read(at_end=True)
    assert ended.reason == ("SLURM-job '8' failed, SLURM status is: 'TIMEOUT'. Detailed failure reason unavailable.")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), False),
        (("--executor", "slurm", "--jobs", "2"), True),
        (("--executor=slurm",), True),
        (("-e", "slurm"), True),
        (("--executor", "slurm-jobstep"), False),
        (("--jobs", "slurm"), False),
    ],
)
def test_who_uses_slurm(options, expected):
    assert uses_slurm(options) is expected


@pytest.fixture
def plug_in(monkeypatch):
    monkeypatch.setattr(slurm.importlib.util, "find_spec", lambda name: object())


@pytest.mark.parametrize("accounting", ["accounting_storage/none", "(null)"])
def test_without_accounting_squeue_is_asked(environment, plug_in, accounting):
    first = ("--slurm-init-seconds-before-status-checks", "10")
    assert plug_in_options((), environment(accounting)) == (*first, "--slurm-status-command", "squeue")
    assert plug_in_options(("--slurm-status-command=sacct",), environment(accounting)) == first
    more = ("--slurm-init-seconds-before-status-checks", "40", "--slurm-status-command", "sacct")
    assert plug_in_options(more, environment(accounting)) == ()


def test_with_accounting_the_plug_in_decides(environment, plug_in):
    expected = ("--slurm-init-seconds-before-status-checks", "10")
    assert plug_in_options((), environment("accounting_storage/slurmdbd")) == expected


def test_what_is_missing_is_said(environment, plug_in, monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="there is no sbatch on PATH"):
        plug_in_options((), {"PATH": str(tmp_path)})
    only_sbatch = environment(programs=("sbatch",))
    with pytest.raises(ValueError, match="SLURM does not answer"):
        plug_in_options((), only_sbatch)
    monkeypatch.setattr(slurm.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'needs snakemake_executor_plugin_slurm: run pip install "\.\[slurm\]"'):
        plug_in_options((), dict(os.environ))
