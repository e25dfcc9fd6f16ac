"""What the source distribution and the wheel must hold, and must not: ``python -m tests.packaged_files dist``.

The wheel is the package, with the trainers inside, and the two files by which Python finds them when it starts; the
source distribution is what builds and tests it.
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

from nnunet_stochastic import __version__

__all__ = ["names_in", "problems_in", "problems_of"]

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "nnunet_stochastic"
_HOOK = {f"{PACKAGE}/_hook/{PACKAGE}.pth", f"{PACKAGE}/_hook/{PACKAGE}.start"}
_INFO = f"{PACKAGE}-{__version__}.dist-info"
#: First parts of names.
_IN_WHEEL = {PACKAGE, f"{PACKAGE}.pth", f"{PACKAGE}.start", _INFO}
_IN_SDIST = {
    *(PACKAGE, "trainers", "tests", "examples", "benchmarks", "containers", "docs", ".github"),
    *("README.md", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "SECURITY.md", "Makefile"),
    *("pyproject.toml", "PKG-INFO", ".gitignore", ".pre-commit-config.yaml", ".dockerignore", "mkdocs.yml"),
}
_TEXTS = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "CITATION.cff", "Makefile"}


def names_in(file: Path) -> set[str]:
    """Names of the files in a wheel, or in a source distribution below its one folder."""
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as archive:
            return set(archive.namelist())
    with tarfile.open(file) as archive:
        return {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}


def problems_in(file: Path, names: set[str]) -> list[str]:
    """What a distribution lacks, or has and must not have, a line each."""
    package = {path.relative_to(ROOT).as_posix() for path in _files(ROOT / PACKAGE)}
    trainers = {path.name for path in (ROOT / "trainers").glob("*.py")}
    if file.suffix == ".whl":
        needed = (package - _HOOK) | {f"{PACKAGE}/_trainers/{name}" for name in trainers}
        needed |= {f"{PACKAGE}.pth", f"{PACKAGE}.start", f"{_INFO}/licenses/LICENSE", f"{_INFO}/entry_points.txt"}
        allowed = _IN_WHEEL
    else:
        needed = package | _TEXTS | {f"trainers/{name}" for name in trainers} | {"pyproject.toml", "PKG-INFO"}
        allowed = _IN_SDIST
    strange = sorted(name for name in names if name.partition("/")[0] not in allowed or "__pycache__" in name)
    return [
        *(f"{file.name} lacks {name}" for name in sorted(needed - names)),
        *(f"{file.name} has {name}, which is not to ship" for name in strange),
    ]


def problems_of(folder: Path) -> list[str]:
    """What is wrong with the one wheel and the one source distribution in a folder."""
    found = []
    for kind in ("*.whl", "*.tar.gz"):
        files = list(folder.glob(kind))
        if len(files) != 1:
            found.append(f"{folder} must have one {kind}, and has {len(files)}: run make dist")
        for file in files:
            found += problems_in(file, names_in(file))
    return found


def _files(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != ".DS_Store"
    ]


if __name__ == "__main__":
    if problems := problems_of(Path(sys.argv[1])):
        sys.exit("\n".join(problems))
    print(f"{sys.argv[1]}: wheel and source distribution hold what they must, and nothing else")
