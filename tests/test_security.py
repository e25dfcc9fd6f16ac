"""What SECURITY.md says of reading files, held against the source: which calls could run code, and where they are."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import nnunet_stochastic

PACKAGE = Path(nnunet_stochastic.__file__).parent
FILES = [path for path in PACKAGE.rglob("*.py") if "_trainers" not in path.parts]
FILES += list((PACKAGE.parent / "trainers").glob("*.py"))


def calls_by_name() -> dict[str, list[tuple[str, ast.Call]]]:
    """All calls, under the last part of what is called, with the module's path below the package."""
    found = defaultdict(list)
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                found[name].append((path.relative_to(PACKAGE.parent).as_posix(), node))
    return found


CALLS = calls_by_name()


def of_module(name: str, module: str) -> list[tuple[str, ast.Call]]:
    """The calls ``module.name(...)``."""
    return [
        (path, call)
        for path, call in CALLS[name]
        if isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == module
    ]


def argument(call: ast.Call, name: str) -> str | None:
    return next((ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == name), None)


def test_tensors_are_loaded_as_plain_data_unless_trusted():
    loads = [(path, argument(call, "weights_only")) for path, call in of_module("load", "torch")]
    assert loads == [("nnunet_stochastic/checkpoints.py", "not trust")]


def test_arrays_are_loaded_without_pickles():
    loads = of_module("load", "np")
    assert loads
    assert {argument(call, "allow_pickle") for _, call in loads} <= {"False", None}  # NumPy's default


def test_pickles_are_those_beside_preprocessed_cases():
    assert {path for path, _ in CALLS["load_pickle"]} == {
        "nnunet_stochastic/datasets/rater_preprocessing.py",
        "nnunet_stochastic/training/raters.py",
    }
    assert not any(of_module(name, "pickle") for name in ("load", "loads", "Unpickler"))


def test_nothing_is_given_to_a_shell_or_run_as_text():
    assert not any(argument(call, "shell") for calls in CALLS.values() for _, call in calls)
    assert not [name for name in ("eval", "exec") for _, call in CALLS[name] if isinstance(call.func, ast.Name)]
    assert not any(of_module(name, "os") for name in ("system", "popen"))


def test_yaml_has_no_tags_of_python():
    attributes = [
        node.attr
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "yaml"
    ]
    assert {name for name in attributes if "Loader" in name or "load" in name} == {"SafeLoader"}
