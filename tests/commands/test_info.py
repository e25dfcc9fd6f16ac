"""What ``nnunet_stochastic_info`` prints, and what a command makes of an error."""

from __future__ import annotations

import io
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from nnunet_stochastic import __version__, discovery
from nnunet_stochastic.commands import info
from nnunet_stochastic.commands._errors import TRACEBACK_VARIABLE, report_errors

ROOT = Path(__file__).resolve().parents[2]


def test_info_when_active(monkeypatch, capsys):
    monkeypatch.setenv(discovery.VARIABLE, "mine")
    discovery.activate()
    assert info.main([]) == 0
    printed = capsys.readouterr().out
    for expected in (
        f"nnunet_stochastic  {__version__}",
        f"nnunetv2           {version('nnunetv2')}",
        f"torch              {version('torch')}",
        f"Trainers folder: {discovery.trainers_folder()}",
        "  nnUNetTrainerMoB ",
        "Discovery: active",
        discovery.export_line(windows=False),
        discovery.export_line(windows=True),
    ):
        assert expected in printed


def test_info_when_the_hook_did_not_run(monkeypatch, capsys):
    monkeypatch.setenv(discovery.VARIABLE, "mine")
    assert info.main([]) == 1
    printed = capsys.readouterr().out
    assert "Discovery: NOT active" in printed
    assert f"{discovery.VARIABLE} = mine\n" in printed
    assert discovery.export_line(windows=False) in printed


def test_info_without_trainers(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(discovery, "trainers_folder", lambda: str(tmp_path))
    monkeypatch.setenv(discovery.VARIABLE, str(tmp_path))
    assert info.main([]) == 1
    assert "the installation is incomplete" in capsys.readouterr().out


def test_info_where_stdout_has_no_greek(monkeypatch, tmp_path):
    (tmp_path / "greek.py").write_text('class Greek:\n    """Σ = α² I"""\n', "utf-8")
    monkeypatch.setattr(discovery, "trainers_folder", lambda: str(tmp_path))
    monkeypatch.setenv(discovery.VARIABLE, str(tmp_path))
    printed = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(printed, encoding="cp1252", write_through=True))
    assert info.main([]) == 0
    assert "  Greek  ? = ?² I" in printed.getvalue().decode("cp1252")


def test_trainers_in_reads_classes_without_importing(tmp_path):
    (tmp_path / "b.py").write_text(
        'import missing\nclass B(missing.Base):\n    """Summary of β.\n\n    More."""\n', "utf-8"
    )
    (tmp_path / "a.py").write_text("class A: ...\nclass _Private: ...\ndef function(): ...\n", "utf-8")
    (tmp_path / "notes.txt").write_text("class C: ...", "utf-8")
    assert info.trainers_in(tmp_path) == {"A": "", "B": "Summary of β."}


def test_an_incomplete_installation_can_be_looked_at():
    """No library is needed to say which are missing."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import nnunet_stochastic.commands.info; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pydantic", "numpy", "torch", "nnunetv2"} & set(done.stdout.split())


@pytest.mark.parametrize("error", [ValueError("case_3: NaN"), FileNotFoundError(2, "No such file", "case_3.npz")])
def test_bad_input_becomes_one_message(monkeypatch, capsys, error):
    monkeypatch.delenv(TRACEBACK_VARIABLE, raising=False)

    @report_errors
    def main(argv=None):
        raise error

    assert main([]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert "case_3" in captured.err
    assert "Traceback" not in captured.err

    monkeypatch.setenv(TRACEBACK_VARIABLE, "1")
    with pytest.raises(type(error)):
        main([])


def test_defects_keep_their_traceback_and_results_pass_through():
    @report_errors
    def main(argv=None):
        if argv:
            raise ZeroDivisionError
        return 7

    assert main([]) == 7
    with pytest.raises(ZeroDivisionError):
        main(["-i"])
