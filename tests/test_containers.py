"""The containers' scripts with stand-ins for what they call, and what both recipes hand to the builder."""

from __future__ import annotations

import os
import re
import subprocess
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
CONTAINERS = ROOT / "containers"

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the scripts are those of a POSIX shell")


@pytest.fixture
def run(tmp_path):
    """Runs a script where these commands exist and print their names and arguments, a line each, and no others do."""

    def run(script: str, *arguments: str, commands: tuple[str, ...]) -> subprocess.CompletedProcess:
        for name in commands:
            stand_in = tmp_path / name
            stand_in.write_text(f'#!/bin/sh\nprintf "%s\\n" {name} "$@"\n')
            stand_in.chmod(0o755)
        command = ["/bin/sh", str(CONTAINERS / script), *arguments]
        return subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True)

    return run


@pytest.mark.parametrize(
    ("arguments", "called"),
    [
        (["predict", "-i", "a folder", "-o", ""], ["nnunet_stochastic_predict", "-i", "a folder", "-o", ""]),
        (["nnunet_stochastic_predict", "--help"], ["nnunet_stochastic_predict", "--help"]),
        (["nnUNetv2_train", "501", "3d_fullres", "0"], ["nnUNetv2_train", "501", "3d_fullres", "0"]),
        ([], ["nnunet_stochastic_info"]),
    ],
)
def test_the_entry_point_is_any_command(run, arguments, called):
    commands = ("nnunet_stochastic_predict", "nnunet_stochastic_info", "nnUNetv2_train")
    done = run("entrypoint.sh", *arguments, commands=commands)
    assert (done.returncode, done.stdout.splitlines()) == (0, called)


def test_the_entry_point_names_what_is_no_command(run):
    done = run("entrypoint.sh", "predictt", "-i", "x", commands=("nnunet_stochastic_predict",))
    assert done.returncode == 127
    assert done.stderr.startswith("error: predictt is no command of this container: ")


def test_pytorch_is_that_of_the_device(run):
    of_index = ["--index-url", "https://example.org/cpu"]
    for device, index in (("cpu", of_index), ("cuda", of_index), ("cuda", [])):
        done = run("install.sh", "torch", device, *index[1:], commands=("python",))
        words = ["python", "-m", "pip", "install", "--no-cache-dir", *index, "torch>=2.6,!=2.9.*", "torchvision"]
        assert (done.returncode, done.stdout.splitlines()) == (0, words)
    for wrong in (["torch", "rocm"], ["all", "cpu"], ["torch", "cpu"], ["torch", "cpu", ""]):
        done = run("install.sh", *wrong, commands=("python",))
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: ")


def test_the_package_is_installed_from_its_source_and_checked(run):
    lines = run("install.sh", "package", "cuda", "/source", commands=("python",)).stdout.splitlines()
    assert lines[:6] == ["python", "-m", "pip", "install", "--no-cache-dir", "/source[study]"]
    assert lines[6:11] == ["python", "-m", "pip", "check", "python"]
    assert "bool(torch.version.cuda) == ('cuda' == 'cuda')" in lines[-1]


def test_pytorch_need_not_be_replaced_when_the_package_comes():
    (ours,) = re.findall(r"'(torch[^']+)'", (CONTAINERS / "install.sh").read_text(encoding="utf-8"))
    of_package = re.findall(r'^    "(torch[^"]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    needed = [Requirement(text) for text in (of_package[0], *requires("nnunetv2")) if re.match(r"torch\W", text)]
    allowed = [requirement.specifier for requirement in needed if requirement.marker is None]
    assert len(allowed) == 2
    versions = [f"2.{minor}.{patch}" for minor in range(30) for patch in range(3)]
    taken = list(Requirement(ours).specifier.filter(versions))
    assert len(taken) > 60
    assert taken == [version for version in versions if all(version in specifier for specifier in allowed)]


def test_both_recipes_hand_over_what_the_package_is_built_from():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (readme,) = re.findall(r'^readme = "(.*)"', project, re.MULTILINE)
    (folders,) = re.findall(r"^only-include = \[(.*)\]", project, re.MULTILINE)
    needed = {"pyproject.toml", readme, "LICENSE", *re.findall(r'"(\w+)"', folders)}
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[1] == "*"
    handed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    recipe = (CONTAINERS / "nnunet_stochastic.def").read_text(encoding="utf-8")
    files = {line.split()[0] for line in re.search(r"%files\n(.*?)\n\n", recipe, re.DOTALL)[1].splitlines()}
    assert needed == {"pyproject.toml", "README.md", "LICENSE", "nnunet_stochastic", "trainers"}
    assert handed == needed | {"containers"}
    assert files == needed | {"containers/install.sh", "containers/entrypoint.sh"}
