"""Installed into fresh environments: nnU-Net finds the trainers in a plain shell, and uninstalling leaves nothing.

Each environment sees the dependencies of the running interpreter through a folder of links that leaves this package
out, so that neither its code nor its hook can come from anywhere but the installation under test.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sysconfig
import venv
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

from tests.packaged_files import names_in, problems_in, problems_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))
VARIABLE = "nnUNet_extTrainer"

# nnU-Net's own lookup, which nnUNetv2_train and nnUNetv2_predict call with the name given to -tr.
LOOK_UP = """
import multiprocessing, sys

def look_up(names):
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
    for name in names:
        print("found", recursive_find_trainer_class_by_name(name).__name__, flush=True)

if __name__ == "__main__":
    how, *names = sys.argv[1:]
    if how == "here":
        look_up(names)
    else:
        child = multiprocessing.get_context("spawn").Process(target=look_up, args=(names,))
        child.start()
        child.join()
        sys.exit(child.exitcode)
"""

USERS_TRAINER = """
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

class UsersTrainer(nnUNetTrainer):
    pass
"""


class Environment:
    """A fresh virtual environment that is used as from a plain shell: no variable of Python or nnU-Net is set."""

    def __init__(self, folder: Path, dependencies: Path):
        venv.create(folder, with_pip=True, symlinks=os.name != "nt")
        self.folder = folder
        self.scripts = folder / ("Scripts" if os.name == "nt" else "bin")
        self.python = self.scripts / ("python.exe" if os.name == "nt" else "python")
        paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
        self.site_packages = Path(paths["purelib"])
        (self.site_packages / "dependencies.pth").write_text(f"{dependencies}\n", encoding="utf-8")

    def run(self, *command: str | Path, status: int = 0, **variables: str) -> str:
        """Run a command outside the checkout; return what it printed."""
        inherited = ("PYTHON", "PIP", "NNUNET", "VIRTUAL_ENV")
        plain = {name: value for name, value in os.environ.items() if not name.upper().startswith(inherited)}
        done = subprocess.run(
            [str(part) for part in command],
            env=plain | variables,
            cwd=self.folder.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    def pip(self, *arguments: str | Path) -> None:
        self.run(self.python, "-m", "pip", "--disable-pip-version-check", *arguments)

    def install(self, *what: str | Path) -> None:
        self.pip("install", "--no-index", "--no-deps", "--no-build-isolation", *what)

    def files(self) -> set[str]:
        """Every file except those of pip, which caches its own bytecode as it runs."""
        pip = self.site_packages / "pip"
        return {str(file) for file in self.folder.rglob("*") if pip not in file.parents}


def link_dependencies(folder: Path, *left_out: str) -> Path:
    """A folder of links to what the running interpreter has installed, but for names that start with ``left_out``."""
    folder.mkdir()
    for entry in SITE_PACKAGES.iterdir():
        if not entry.name.lower().startswith(left_out):
            (folder / entry.name).symlink_to(entry, target_is_directory=entry.is_dir())
    return folder


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    if not (SITE_PACKAGES / "nnunetv2").is_dir():
        pytest.skip(f"needs nnunetv2 installed as a wheel in {SITE_PACKAGES}")
    folder = tmp_path_factory.mktemp("packaging")
    try:
        (folder / "link").symlink_to(ROOT, target_is_directory=True)
    except OSError:
        pytest.skip("this user may not create symbolic links")
    (folder / "look_up.py").write_text(LOOK_UP, encoding="utf-8")
    users = folder / "users_trainers"
    users.mkdir()
    (users / "users_module.py").write_text(USERS_TRAINER, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def with_nnunet_wheel(workspace) -> Environment:
    dependencies = link_dependencies(workspace / "dependencies", "nnunet_stochastic", "_nnunet_stochastic")
    return Environment(workspace / "nnunet_wheel", dependencies)


@pytest.fixture(scope="module")
def with_nnunet_editable(workspace) -> Environment:
    dependencies = link_dependencies(
        workspace / "dependencies_without_nnunet", "nnunet_stochastic", "_nnunet_stochastic", "nnunetv2"
    )
    environment = Environment(workspace / "nnunet_editable", dependencies)
    source = workspace / "nnunet_source"
    copytree(SITE_PACKAGES / "nnunetv2", source / "nnunetv2", ignore=ignore_patterns("__pycache__"))
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        f'[project]\nname = "nnunetv2"\nversion = "{version("nnunetv2")}"\n'
        '[tool.hatch.build]\ndev-mode-dirs = ["."]\n',
        encoding="utf-8",
    )
    environment.install("--editable", source)
    return environment


@pytest.fixture(scope="module")
def distributions(workspace, with_nnunet_wheel) -> Path:
    """The folder with our wheel and source distribution."""
    folder = workspace / "dist"
    build = f"import os; os.chdir({str(ROOT)!r}); import hatchling.build as b; "
    with_nnunet_wheel.run(
        with_nnunet_wheel.python, "-c", build + f"b.build_sdist({str(folder)!r}); b.build_wheel({str(folder)!r})"
    )
    return folder


@pytest.fixture(params=["with_nnunet_wheel", "with_nnunet_editable"])
def environment(request) -> Environment:
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["wheel", "editable"])
def installed(request, environment, distributions) -> Iterator[tuple[Environment, Path]]:
    """The environment with our package in it, and the trainers folder to expect; removed again at the end."""
    before = environment.files()
    if request.param == "wheel":
        (wheel,) = distributions.glob("*.whl")
        environment.install(wheel)
        folder = environment.site_packages / "nnunet_stochastic" / "_trainers"
    else:
        environment.install("--editable", ROOT)
        folder = ROOT / "trainers"
    yield environment, folder
    environment.pip("uninstall", "--yes", "nnunet-stochastic")
    assert environment.files() == before
    assert environment.run(environment.python, "-c", f"import os; print({VARIABLE!r} in os.environ)").strip() == "False"


def test_trainers_are_found_until_uninstalled(installed, workspace):
    environment, folder = installed
    using = f"Using trainer 'nnUNetTrainerMoB' from: {folder}"

    printed = environment.run(environment.python, workspace / "look_up.py", "here", "nnUNetTrainerMoB")
    assert using in printed
    assert "found nnUNetTrainerMoB" in printed

    # In a worker that was spawned, beside the user's own folder, which is searched first.
    users = workspace / "users_trainers"
    printed = environment.run(
        environment.python,
        workspace / "look_up.py",
        "spawned",
        "UsersTrainer",
        "nnUNetTrainerMoB",
        **{VARIABLE: str(users)},
    )
    assert f"Using trainer 'UsersTrainer' from: {users}" in printed
    assert using in printed

    printed = environment.run(environment.scripts / "nnunet_stochastic_info")
    assert f"Trainers folder: {folder}" in printed
    assert "nnUNetTrainerMoB" in printed
    assert "Discovery: active" in printed


@pytest.mark.skipif(os.name == "nt", reason="runs the POSIX export line")
def test_without_the_hook_the_export_line_does_the_same(with_nnunet_wheel, distributions, workspace):
    (wheel,) = distributions.glob("*.whl")
    target = workspace / "target folder"
    with_nnunet_wheel.install("--target", target, wheel)
    info = target / "bin" / "nnunet_stochastic_info"

    printed = with_nnunet_wheel.run(info, status=1, PYTHONPATH=str(target))
    assert "Discovery: NOT active" in printed
    (line,) = (part for part in printed.split("  ") if part.startswith("export "))

    command = f"{line.strip()}; {shlex.quote(str(info))}"
    assert "Discovery: active" in with_nnunet_wheel.run("sh", "-c", command, PYTHONPATH=str(target))


def test_distributions_carry_the_package_and_its_data(distributions):
    assert problems_of(distributions) == []
    for kind, lacking in (("*.whl", "nnunet_stochastic/py.typed"), ("*.tar.gz", "CHANGELOG.md")):
        (file,) = distributions.glob(kind)
        names = names_in(file)
        assert problems_in(file, names - {lacking}) == [f"{file.name} lacks {lacking}"]
        assert problems_in(file, names | {"shared/notes.md"}) == [
            f"{file.name} has shared/notes.md, which is not to ship"
        ]
    (wheel,) = distributions.glob("*.whl")
    assert problems_in(wheel, names_in(wheel) | {"tests/conftest.py"}) == [
        f"{wheel.name} has tests/conftest.py, which is not to ship"
    ]
