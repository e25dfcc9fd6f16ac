"""``nnunet_stochastic_info``: versions, the trainers, whether nnU-Net finds them; schemas of files; model cards."""

from __future__ import annotations

import argparse
import ast
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nnunet_stochastic import __version__, discovery
from nnunet_stochastic.commands._errors import report_errors
from nnunet_stochastic.commands._flags import parse_arguments

__all__ = ["main", "trainers_in"]

_STANDARD_OUTPUT = "-"


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
    add = parser.add_argument
    add("-m", type=Path, metavar="FOLDER", help="folder of a trained model, TRAINER__PLANS__CONFIGURATION, for --card")
    add(
        "--card",
        nargs="?",
        const=_STANDARD_OUTPUT,
        metavar="FILE",
        help="write the model card of -m, in Markdown, to a new file, or print it, and stop: what the files of the "
        "model say, and fields to fill in for what they do not",
    )
    add(
        "-chk",
        default="checkpoint_final.pth",
        metavar="FILE",
        help="checkpoint of each fold that the card is of (default: %(default)s)",
    )
    add(
        "-calibration",
        type=Path,
        metavar="FILE",
        help="calibration.json that nnunet_stochastic_determine_calibration has written, for the card (default: the "
        "one inside -m, if there is one)",
    )
    add(
        "-evaluation",
        type=Path,
        metavar="FOLDER",
        help="output of nnunet_stochastic_evaluate for predictions of -m, for the card",
    )
    arguments = parse_arguments(parser, argv)
    if arguments.schema_of is not None:
        return _print_schema(arguments.schema_of)
    if arguments.card is not None:
        return _write_card(arguments)
    if others := [name for name in ("m", "calibration", "evaluation") if getattr(arguments, name) is not None]:
        raise ValueError(f"-{others[0]} is for the model card: add --card")
    return _print_installation()


def _write_card(arguments: argparse.Namespace) -> int:
    if arguments.m is None:
        raise ValueError("--card is of a trained model: name its folder with -m")
    if arguments.card == _STANDARD_OUTPUT:
        print(_model_card(arguments), end="")
        return 0
    from nnunet_stochastic.io.output_locks import locked_output_file
    from nnunet_stochastic.io.text import write_text

    file = Path(arguments.card)
    with locked_output_file(file, option="--card"):
        if file.exists():
            raise ValueError(f"--card {file} is there already, perhaps with fields filled in: name a new file")
        card = _model_card(arguments)
        write_text(file, card)
    print(f"{file}: {card.count('**[fill in')} fields to fill in")
    return 0


def _model_card(arguments: argparse.Namespace) -> str:
    # After the arguments are checked: nnU-Net takes seconds to import.
    from nnunet_stochastic.evaluation import CALIBRATION_FILE, Calibration
    from nnunet_stochastic.evaluation.evaluated_run import read_summary
    from nnunet_stochastic.inference.trained_folder import read_trained_folder
    from nnunet_stochastic.report.model_card import check_calibration_of_model, check_described_model, model_card

    model = asdict(read_trained_folder(arguments.m, checkpoint_name=arguments.chk))
    calibration = evaluation = None
    file = arguments.calibration or arguments.m / CALIBRATION_FILE
    if arguments.calibration is not None or file.is_file():
        calibration = Calibration.load(file)
        check_calibration_of_model(calibration, model, file)
    if arguments.evaluation is not None:
        summary = arguments.evaluation / "summary.json"
        evaluation = read_summary(summary, ("convention", "model", "num_cases", "num_raters", "results", "tasks"))
        check_described_model(evaluation["model"], model, summary)
    versions = {"nnunet_stochastic": __version__, "nnunetv2": _version("nnunetv2"), "torch": _version("torch")}
    versions["Python"] = platform.python_version()
    return model_card(model, versions=versions, calibration=calibration, evaluation=evaluation)


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
