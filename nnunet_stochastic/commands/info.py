"""``nnunet_stochastic_info``: versions, the trainers, whether nnU-Net finds them; schemas of the files written."""

from __future__ import annotations

import argparse
import ast
import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nnunet_stochastic import __version__, discovery
from nnunet_stochastic.commands._errors import report_errors
from nnunet_stochastic.commands._flags import parse_arguments

__all__ = ["main", "trainers_in"]


@report_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Print what is asked for; return 1 if nnU-Net does not find the trainers from this shell."""
    parser = argparse.ArgumentParser(
        prog="nnunet_stochastic_info",
        description="Print versions, the trainers that this package adds to nnU-Net, and whether nnU-Net finds them. "
        "The exit status is 1 if it does not.",
    )
    parser.add_argument(
        "--schema_of",
        metavar="FILE",
        help="print the JSON schema of the files of a name that are written, for instance uncertainty.json, or of all, "
        "by name, and stop",
    )
    arguments = parse_arguments(parser, argv)
    if arguments.schema_of is not None:
        return _print_schema(arguments.schema_of)
    return _print_installation()


def _print_schema(file: str) -> int:
    # Not by those who ask for something else: libraries come with it, which take a second.
    from nnunet_stochastic.evaluation.json_schemas import FILE_SCHEMAS, json_schema_of

    found = {name: json_schema_of(name) for name in FILE_SCHEMAS} if file == "all" else json_schema_of(file)
    print(json.dumps(found, indent=2))
    return 0


def _print_installation() -> int:
    folder = Path(discovery.trainers_folder())
    trainers = trainers_in(folder)
    active = discovery.is_active()

    print(f"nnunet_stochastic  {__version__}")
    print(f"nnunetv2           {_version('nnunetv2')}")
    print(f"torch              {_version('torch')}")
    print(f"Python             {platform.python_version()} ({platform.system()} {platform.machine()})")
    print(f"\nTrainers folder: {folder}")
    # Docstrings hold Greek letters, which a pipe on Windows (cp1252) cannot carry.
    encoding = sys.stdout.encoding or "utf-8"
    for name, summary in trainers.items():
        summary = summary.encode(encoding, "replace").decode(encoding)
        print(f"  {name:<{max(map(len, trainers))}}  {summary}".rstrip())
    if not trainers:
        print("  (no trainers here: the installation is incomplete, run `pip install .` in its checkout again)")
    print(f"\nDiscovery: {'active' if active else 'NOT active'}")
    print(f"  {discovery.VARIABLE} = {os.environ.get(discovery.VARIABLE, '(not set)')}")
    if active:
        print("  nnU-Net finds the trainers by name, for example `nnUNetv2_train ... -tr nnUNetTrainerMoB`.")
        print("  Where Python's start-up files are not read (python -S, pip install --target), do the same by hand:")
    else:
        print("  Python did not read nnunet_stochastic.pth when it started (python -S, pip install --target, or a path")
        print("  that is no site-packages folder). Set the variable yourself, and nnU-Net finds the trainers:")
    print(f"    Linux, macOS:  {discovery.export_line(windows=False)}")
    print(f"    Windows (cmd): {discovery.export_line(windows=True)}")
    return 0 if active and trainers else 1


def trainers_in(folder: Path) -> dict[str, str]:
    """Trainer classes defined in the files of a folder, with the first line of their docstrings, sorted by name.

    The files are parsed and not imported: an import takes seconds, and would fail where nnU-Net is missing.
    """
    trainers = {}
    for file in folder.glob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8"), filename=str(file)).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                trainers[node.name] = (ast.get_docstring(node) or "").partition("\n")[0]
    return dict(sorted(trainers.items()))


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"
