"""Commands whose output goes nowhere, or to a place that knows few letters, do their work all the same."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

WORK = r"""
import os, sys
from pathlib import Path
from nnunet_stochastic.commands._errors import report_errors
from tqdm import tqdm

@report_errors
def main(argv=None):
    from rich.console import Console
    from rich.table import Table
    kept = open(sys.argv[1] + ".kept", "w")
    try:
        os.write(2, b"a library says something")
    except OSError:
        pass
    print("\u0394 \udcff", "x" * 100_000, flush=True)
    Console().print(Table("\u0394", "\u2265"))
    print("\u0394", "x" * 100_000, file=sys.stderr, flush=True)
    tqdm.write("\u0394", file=sys.stderr)
    for step in tqdm(range(2)):
        pass
    kept.write("kept")
    kept.close()
    Path(sys.argv[1]).write_text("done")
    raise ValueError("\u0394 is bad") if len(sys.argv) > 2 else SystemExit(main_status())

def main_status():
    return 0

sys.exit(main())
"""
PLACES = {
    "closed": ">&- 2>&-",
    "stderr closed": "2>&-",
    "all closed": "<&- >&- 2>&-",
    "nobody reads": "2>&1 | true",
    "full": "> /dev/full 2>&1",
    "cp1252": "> out 2> err",
}


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell, and /dev/full")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("words", ["", " fails"])
def test_work_does_not_depend_on_the_output(tmp_path, place, words):
    (tmp_path / "work.py").write_text(WORK, encoding="utf-8")
    file = tmp_path / "file"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    if place == "cp1252":
        environment["PYTHONIOENCODING"] = "cp1252"
    command = f"set -o pipefail; {sys.executable} work.py {file}{words} {PLACES[place]}"
    done = subprocess.run(["bash", "-c", command], env=environment, cwd=tmp_path, check=False)
    assert file.read_text() == "done"
    assert (tmp_path / "file.kept").read_text() == "kept"
    assert done.returncode == (1 if words else 0)
    if place == "cp1252":
        assert (tmp_path / "out").read_text(encoding="cp1252").startswith("? ? x")


def test_streams_are_as_they_were_afterwards(capsys):
    from nnunet_stochastic.commands._errors import report_errors

    before = sys.stdout, sys.stderr
    assert report_errors(lambda argv: print("x\u0394") or 0)() == 0
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr().out == "x\u0394\n"
