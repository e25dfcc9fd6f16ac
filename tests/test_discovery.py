"""The variable after ``activate``, the two hook files, and what starting Python pays for them."""

from __future__ import annotations

import os
import pkgutil
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_stochastic import discovery

PACKAGE = Path(discovery.__file__).resolve().parent
FOLDER = discovery.trainers_folder()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, [FOLDER]),
        ("", [FOLDER]),
        ("mine", ["mine", FOLDER]),
        (os.pathsep.join(["mine", "other folder"]), ["mine", "other folder", FOLDER]),
        (os.pathsep.join(["mine", ""]), ["mine", FOLDER]),
        (FOLDER, [FOLDER]),
        (os.pathsep.join([FOLDER, "mine"]), [FOLDER, "mine"]),
        (FOLDER + os.sep, [FOLDER + os.sep]),
    ],
)
def test_activate_appends_once_and_keeps_the_users_folders(monkeypatch, before, after):
    if before is None:
        monkeypatch.delenv(discovery.VARIABLE, raising=False)
    else:
        monkeypatch.setenv(discovery.VARIABLE, before)
    discovery.activate()
    discovery.activate()
    assert os.environ[discovery.VARIABLE].split(os.pathsep) == after
    assert discovery.is_active()


@pytest.mark.parametrize("value", ["", "mine", str(Path(FOLDER).parent), FOLDER + "2"])
def test_is_active_wants_the_folder_itself(monkeypatch, value):
    monkeypatch.setenv(discovery.VARIABLE, value)
    assert not discovery.is_active()


def test_a_link_to_the_folder_counts_as_the_folder(monkeypatch, tmp_path):
    link = tmp_path / "link"
    try:
        link.symlink_to(FOLDER, target_is_directory=True)
    except OSError:
        pytest.skip("this user may not create symbolic links")
    monkeypatch.setenv(discovery.VARIABLE, str(link))
    assert discovery.is_active()


def test_export_line_is_what_activate_sets(monkeypatch):
    monkeypatch.setenv(discovery.VARIABLE, "my trainers")
    value = f"my trainers{os.pathsep}{FOLDER}"
    by_hand = [discovery.export_line(windows=windows) for windows in (False, True)]
    assert by_hand[1] == f'set "nnUNet_extTrainer={value}"'
    assert shlex.split(by_hand[0]) == ["export", f"nnUNet_extTrainer={value}"]

    discovery.activate()
    assert os.environ[discovery.VARIABLE] == value
    assert [discovery.export_line(windows=windows) for windows in (False, True)] == by_hand


def test_trainers_folder_holds_the_trainers():
    assert (Path(FOLDER) / "nnUNetTrainerMoB.py").is_file()


def test_both_hook_files_call_activate(monkeypatch):
    # `site` executes only those lines of a .pth file that start with "import ", and takes others for paths.
    (line,) = (PACKAGE / "_hook" / "nnunet_stochastic.pth").read_text(encoding="utf-8").splitlines()
    assert line.startswith("import ")
    monkeypatch.delenv(discovery.VARIABLE, raising=False)
    exec(line, {})
    assert discovery.is_active()

    (entry_point,) = (PACKAGE / "_hook" / "nnunet_stochastic.start").read_text(encoding="utf-8").splitlines()
    assert pkgutil.resolve_name(entry_point) is discovery.activate


def test_the_hook_imports_next_to_nothing():
    code = (
        f"import os, sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); before = set(sys.modules)\n"
        "import nnunet_stochastic.discovery; nnunet_stochastic.discovery.activate()\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    environment = {name: value for name, value in os.environ.items() if name != discovery.VARIABLE}
    started = subprocess.run(
        [sys.executable, "-S", "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert started.stdout.split() == ["__future__", "nnunet_stochastic", "nnunet_stochastic.discovery"]
    assert started.stderr == ""
