"""The ground floor imports nothing of the floors above it, and the data sets nothing of inference."""

import ast
import sys
from pathlib import Path

import nnunet_stochastic

PACKAGE = Path(nnunet_stochastic.__file__).parent
LIBRARIES = {"numpy", "nibabel", "SimpleITK", "tifffile", "pydantic", "pydantic_core"}


def imported_by(folder: str) -> set[str]:
    """Modules that the files of a folder import anywhere, inside of functions too."""
    names: set[str] = set()
    for path in (PACKAGE / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module or "")
    return names


def test_io_needs_numpy_pydantic_and_image_libraries_alone():
    names = imported_by("io")
    assert {"numpy", "nnunet_stochastic.io.staging"} <= names
    others = {name for name in names if not name.startswith("nnunet_stochastic.io.")}
    assert {name.split(".")[0] for name in others} - sys.stdlib_module_names == LIBRARIES


def test_datasets_do_without_inference():
    assert not [name for name in imported_by("datasets") if name.startswith("nnunet_stochastic.inference")]
