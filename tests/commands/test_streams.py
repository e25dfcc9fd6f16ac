"""Commands whose output goes nowhere, or to a place that knows few letters, do their work all the same."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nnunet_stochastic.commands._errors import say_total_time
from nnunet_stochastic.progress import progress_bar

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


CHATTER = """
import sys
from nnunet_stochastic.commands._errors import report_errors

@report_errors
def main(argv=None):
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
    print("before")
    print(recursive_find_trainer_class_by_name(sys.argv[1]).__name__)
    print("Found it", end=" ")
    print("Trainer 'x' is mine")
    return 0

sys.exit(main())
"""


def run_chatter(tmp_path, name):
    (tmp_path / "broken").mkdir(exist_ok=True)
    (tmp_path / "broken" / "nnUNetTrainerBroken.py").write_text("import a_package_that_nobody_has\n")
    (tmp_path / "work.py").write_text(CHATTER, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    if name == "nnUNetTrainerBroken":
        environment["nnUNet_extTrainer"] = str(tmp_path / "broken")
    command = [sys.executable, str(tmp_path / "work.py"), name]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_nnunets_search_for_a_trainer_is_kept_out(tmp_path):
    done = run_chatter(tmp_path, "nnUNetTrainerMoB")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "before\nnnUNetTrainerMoB\nFound it Trainer 'x' is mine\n"
    assert "Searching" not in done.stderr


@pytest.mark.parametrize("name", ["nnUNetTrainerBroken", "nnUNetTrainerNobodyHas"])
def test_what_is_wrong_with_a_trainer_is_said(tmp_path, name):
    done = run_chatter(tmp_path, name)
    assert done.returncode != 0
    expected = "a_package_that_nobody_has" if name.endswith("Broken") else "Could not find requested nnunet trainer"
    assert expected in done.stderr


def test_bars_are_drawn_on_a_terminal_alone(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(progress_bar(range(3), total=3, description="cases", show=True)) == [0, 1, 2]
    assert "cases: 100%" in capsys.readouterr().err
    assert list(progress_bar(range(3), total=3, description="cases", show=False)) == [0, 1, 2]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    bar = progress_bar(total=3, description="cases", show=True)
    bar.update()
    assert bar.disable
    assert capsys.readouterr().err == ""


def test_a_long_command_says_in_the_end_how_long_it_took(monkeypatch, capsys):
    times = iter((10.0, 10.0 + 3 * 60 + 12.7))
    monkeypatch.setattr("nnunet_stochastic.commands._errors.time.monotonic", lambda: next(times))
    assert say_total_time(lambda argv: 7)(None) == 7
    assert capsys.readouterr().out == "total time: 3 min 12 s\n"
