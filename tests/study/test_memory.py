"""Memory of processes, against what one of them allocates."""

import subprocess
import sys

import pytest

from nnunet_stochastic.study.memory import watched_memory

pytest.importorskip("psutil")

ALLOCATE = """
import subprocess, sys, time
if len(sys.argv) > 1:
    block = bytearray(b"1") * (200 * 2**20)
    print("there", flush=True)
    sys.stdin.read()
else:
    sys.exit(subprocess.run([sys.executable, "-c", sys.orig_argv[2], "child"]).returncode)
"""


def test_grandchildren_are_counted_and_what_was_freed_as_well():
    with watched_memory() as peak:
        before = peak.mib
        process = subprocess.Popen(
            [sys.executable, "-c", ALLOCATE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "there\n"
        peak.look()
        process.communicate()
        peak.look()
    assert process.returncode == 0
    assert 200 < peak.mib - before < 300
