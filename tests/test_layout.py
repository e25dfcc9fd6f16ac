"""Who may import whom: a module imports what stands before its part in ``ORDER``, and no two files import each other.

Read from the source, so imports inside functions and those for type checkers count as well; what is imported at all
is looked at in a fresh interpreter.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

import nnunet_stochastic

PACKAGE = Path(nnunet_stochastic.__file__).parent
NAME = PACKAGE.name
#: Parts of the package, a module or a folder each; data and imports flow down this list.
ORDER = (
    # The ground floor: names that many parts share, and files.
    *(
        "annotations",
        "collapse",
        "discovery",
        "epistemic",
        "measures",
        "prediction_choices",
        "processes",
        "recorded_settings",
        "seeds",
    ),
    "io",
    *("patients", "labels", "progress"),
    # Series of slices, and objects for hospitals' archives.
    "dicom",
    # Arrays -> numbers -> decisions: NumPy only, for predictions as well as evaluations.
    *("metrics", "decisions"),
    # Image -> network -> parameters -> distribution -> loss.
    *("checkpoints", "degenerate_samples", "outcomes", "plans", "targets"),
    *("kernels", "distributions", "networks", "losses", "posteriors", "training"),
    # Samples -> moments -> maps.
    *("voxel_law", "certain_voxels", "relevant_classes", "sample_sums", "moments", "maps", "inference"),
    # What is fitted to a trained network afterwards.
    "fitting",
    # Maps -> numbers -> figures.
    *("conventions", "evaluation", "report"),
    # What makes data sets and runs all of it.
    *("datasets", "study", "commands"),
)
#: No distance in ``ORDER`` allows these.
APART = {("datasets", "inference"), ("report", "inference"), ("study", "inference"), ("study", "evaluation")}
#: Parts in which each library may be imported.
LIBRARIES = {
    "torch": {
        *ORDER[ORDER.index("checkpoints") : ORDER.index("conventions")],
        *("datasets", "commands"),
    },
    "nnunetv2": {"plans", "training", "inference", "fitting", "evaluation", "datasets", "commands"},
    "triton": {"kernels"},
    "pydantic": {"io", "dicom", "decisions", "evaluation", "study"},
    "pydicom": {"dicom"},
    "highdicom": {"dicom"},
}
#: What these import at all, beside Python itself.
ALL_LIBRARIES: dict[str, Collection[str]] = {
    **dict.fromkeys(ORDER[: ORDER.index("io")], ()),
    "io": {"PIL", "filelock", "isal", "numpy", "nibabel", "pydantic", "pydantic_core", "SimpleITK", "tifffile"},
    "dicom": {"numpy", "pydantic", "pydicom", "highdicom", "SimpleITK"},
    "kernels": {"torch", "tqdm", "triton"},
    "distributions": {"torch"},
    "networks": {"torch"},
    "losses": {"torch"},
    "posteriors": {"torch"},
    "metrics": {"numpy", "scipy", "sklearn", "SimpleITK"},
    "decisions": {"numpy", "scipy", "sklearn", "pydantic", "cc3d"},
    "conventions": (),
}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_of(path): path for path in PACKAGE.rglob("*.py") if "_trainers" not in path.parts}


def part_of(module: str) -> str:
    """The part of the package that a module is or belongs to; nothing for the package itself."""
    return [*module.split("."), ""][1]


def imports_of(path: Path) -> Iterator[str]:
    """Modules that a file imports, anywhere."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{path}: imports name their package in full"
            assert not node.level, f"{path}: imports name their package in full"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in FILES else node.module


IMPORTS = {module: set(imports_of(path)) for module, path in FILES.items()}


def test_every_part_has_its_place():
    assert sorted({part_of(module) for module in FILES} - {""}) == sorted(ORDER)
    assert len(IMPORTS) > 200
    assert "nnunet_stochastic.distributions" in IMPORTS["nnunet_stochastic.networks.base"]


@pytest.mark.parametrize("part", ORDER)
def test_imports_go_one_way(part):
    before = {"", part, *ORDER[: ORDER.index(part)]} - {other for each, other in APART if each == part}
    for module in FILES:
        if part_of(module) == part:
            up = [name for name in IMPORTS[module] if name.split(".")[0] == NAME and part_of(name) not in before]
            assert not up, f"{module} imports {up}"


@pytest.mark.parametrize("library", LIBRARIES)
def test_parts_without_a_library(library):
    users = {part_of(module) for module, names in IMPORTS.items() if library in {n.split(".")[0] for n in names}}
    assert users <= LIBRARIES[library]


@pytest.mark.parametrize("part", ALL_LIBRARIES)
def test_parts_of_few_libraries(part):
    names = {name.split(".")[0] for module in FILES if part_of(module) == part for name in IMPORTS[module]}
    assert names - sys.stdlib_module_names - {NAME} <= set(ALL_LIBRARIES[part])


def test_no_cycles():
    """Of files, also within a part. The package itself is left out: it imports what it offers when it is asked."""
    left = {module: names & FILES.keys() - {NAME, module} for module, names in IMPORTS.items() if module != NAME}
    while done := [module for module, names in left.items() if not names & left.keys()]:
        for module in done:
            del left[module]
    assert not left


def test_light_parts_import_no_library_at_all():
    """In one interpreter, in this order: the first may import none, the next NumPy, and none of these torch."""
    light = [name for name, libraries in ALL_LIBRARIES.items() if not libraries]
    code = (
        "import sys\n"
        f"sys.path.insert(0, {str(PACKAGE.parent)!r})\n"
        f"import {', '.join(f'{NAME}.{name}' for name in light)}, {NAME}.io.staging, {NAME}.io.text\n"
        "def found(*names): return [name for name in names if name in sys.modules]\n"
        "print(found('torch', 'nnunetv2', 'numpy', 'nibabel', 'SimpleITK'))\n"
        f"import {NAME}.io.grid, {NAME}.metrics\n"
        "print(found('torch', 'nnunetv2', 'SimpleITK'))\n"
        f"import {NAME}.evaluation, {NAME}.report\n"
        "print(found('torch', 'nnunetv2'))\n"
    )
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert started.stdout.splitlines() == ["[]", "[]", "[]"]
