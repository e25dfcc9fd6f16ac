"""The lock of a fold: one process at a time, free when it ends, not kept by those that it forked."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_stochastic.training.fold_lock import lock_fold

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows removes no open files")

HOLD = """
import os, sys, time
from pathlib import Path
from nnunet_stochastic.training.fold_lock import lock_fold
lock_fold(Path(sys.argv[1]))
lock_fold(Path(sys.argv[1]))
worker = os.fork()
if worker == 0:  # as nnU-Net's loaders start their workers
    time.sleep(120)
print(worker, flush=True)
time.sleep(120)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that has the lock of fold_0, and one that it forked."""
    fold = tmp_path / "fold_0"
    fold.mkdir()
    with subprocess.Popen([sys.executable, "-c", HOLD, str(fold)], stdout=subprocess.PIPE, text=True) as process:
        worker = int(process.stdout.readline())
        yield fold, process
        process.kill()
        os.kill(worker, signal.SIGKILL)


def test_a_second_process_is_refused_until_the_first_is_killed(holder):
    fold, process = holder
    with pytest.raises(
        BlockingIOError, match=rf"another command writes {re.escape(str(fold))} \(process {process.pid} "
    ):
        lock_fold(fold)
    process.kill()
    process.wait()
    lock_fold(fold)  # although the worker lives
    assert list(fold.iterdir()) == []


def test_a_training_takes_it_before_it_writes(make_dataset, holder, monkeypatch):
    dataset = make_dataset(2)
    trainer = dataset.trainer("nnUNetTrainerDeterministic")
    fold, _ = holder
    trainer.output_folder = str(fold)
    with pytest.raises(BlockingIOError, match="another command writes"):
        trainer.on_train_start()
    assert list(fold.iterdir()) == []
    trainer.local_rank = 1  # of the training that has it
    monkeypatch.setattr("nnunet_stochastic.training.base.lock_fold", lambda folder: pytest.fail(f"locks {folder}"))
    trainer.on_train_start()


WITHOUT_FCNTL = """
import sys, time
from pathlib import Path
from nnunet_stochastic.training import fold_lock
fold_lock.fcntl = None
fold_lock.lock_fold(Path(sys.argv[1]))
fold_lock.lock_fold(Path(sys.argv[1]))
print("locked", flush=True)
time.sleep(120)
"""


def test_without_posix_locks_a_second_process_is_refused_too(tmp_path, monkeypatch):
    fold = tmp_path / "fold_0"
    fold.mkdir()
    monkeypatch.setattr("nnunet_stochastic.training.fold_lock.fcntl", None)
    with subprocess.Popen(
        [sys.executable, "-c", WITHOUT_FCNTL, str(fold)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(BlockingIOError, match=f"another command writes {re.escape(str(fold))}: wait"):
            lock_fold(fold)
        process.kill()
    lock_fold(fold)


def test_folders_without_locks_are_used_as_they_are(tmp_path: Path, monkeypatch):
    def fail(*_):
        raise OSError(38, "no locks")

    monkeypatch.setattr("nnunet_stochastic.training.fold_lock.fcntl.lockf", fail)
    lock_fold(tmp_path)
