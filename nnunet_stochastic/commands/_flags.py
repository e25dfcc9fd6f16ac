"""Flags that several commands have: one name, one meaning and one text each; and the range of every number."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from nnunet_stochastic.commands._errors import in_few_words
from nnunet_stochastic.prediction_choices import MIN_STEP_SIZE

__all__ = [
    "Number",
    "add_device",
    "add_disable_progress_bar",
    "add_groups",
    "add_model_flags",
    "add_old_name",
    "add_processes",
    "add_seed",
    "add_step_size",
    "add_trained_model",
    "parse_arguments",
]


class Number:
    """The ``type`` of a flag: a number, and what it may be.

    Parameters
    ----------
    kind
        ``int`` or ``float``.
    least, most
        Smallest and largest value.
    """

    def __init__(self, kind: type[int] | type[float], least: float, most: float) -> None:
        self.kind, self.least, self.most = kind, least, most
        self.__name__ = kind.__name__  # argparse's messages have it

    def __call__(self, text: str) -> int | float:
        return self.kind(text)

    def check(self, flag: str, value: float) -> None:
        """Raise ``ValueError`` for a value that is not in the range, or no number."""
        if math.isnan(value) or math.isinf(value):
            raise ValueError(f"{flag} must be a finite number, got {value}")
        if value < self.least:
            raise ValueError(f"{flag} must be at least {self.least}, got {value}")
        if value > self.most:
            raise ValueError(f"{flag} must be at most {self.most}, got {value}")


def parse_arguments(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line, and raise ``ValueError`` for a number that is out of its flag's range."""
    error = parser.error

    def report(message: str) -> NoReturn:
        error(in_few_words(message))

    parser.error = report  # type: ignore[method-assign]
    arguments = parser.parse_args(argv)
    for action in parser._actions:
        if isinstance(action.type, Number) and (value := getattr(arguments, action.dest)) is not None:
            action.type.check(action.option_strings[0], value)
    return arguments


def add_seed(parser: argparse._ActionsContainer) -> None:
    """Add ``--seed``."""
    help_text = "seed of all random numbers; the same seed gives the same files (default: %(default)s)"
    parser.add_argument("--seed", type=Number(int, -(2**63), 2**63 - 1), default=0, metavar="N", help=help_text)


def add_groups(parser: argparse._ActionsContainer, what: str) -> None:
    """Add ``--groups``, the table of patients; ``what`` says what is then over patients."""
    parser.add_argument(
        "--groups",
        type=Path,
        metavar="CSV",
        help="table case,patient of all cases, such as the patients.csv of a converted dataset: "
        f"{what} (default: each case is a patient)",
    )


def add_processes(parser: argparse._ActionsContainer, what: str) -> None:
    """Add ``-np``, the number of threads or processes; ``what`` says of which, and what each needs."""
    parser.add_argument(
        "-np",
        type=Number(int, 1, 1024),  # more than any machine has only take memory
        default=min(4, os.cpu_count() or 1),
        metavar="N",
        help=f"{what} (default: %(default)s)",
    )


def add_model_flags(parser: argparse._ActionsContainer) -> None:
    """Add what names a trained model beside dataset and configuration, and whether its files are trusted."""
    add = parser.add_argument
    add("-p", default="nnUNetPlans", metavar="PLANS", help="plans of the model (default: %(default)s)")
    add("-tr", default="nnUNetTrainer", metavar="TRAINER", help="trainer of the model (default: %(default)s)")
    add(
        "-f",
        nargs="+",
        type=_fold,
        default=["0", "1", "2", "3", "4"],
        metavar="FOLD",
        help="folds of the model, numbers or all; several are the members of an ensemble (default: 0 1 2 3 4)",
    )
    add(
        "--trust_checkpoint",
        action="store_true",
        help="load checkpoints with arbitrary objects, and plans with networks of other packages: they could run code",
    )


def add_trained_model(parser: argparse._ActionsContainer) -> None:
    """Add all that names the checkpoints of one trained model, by nnU-Net's folders or its own."""
    add = parser.add_argument
    add("-d", metavar="DATASET", help="name or number of the dataset the model was trained on")
    add("-c", metavar="CONFIGURATION", help="configuration of the model, for instance 3d_fullres")
    add_model_flags(parser)
    add(
        "-m",
        metavar="FOLDER",
        help="folder of a trained model, instead of -d -p -tr -c and nnUNet_results",
    )
    add("-chk", default="checkpoint_final.pth", metavar="FILE", help="checkpoint of each fold (default: %(default)s)")


def add_step_size(parser: argparse._ActionsContainer) -> None:
    """Add ``-step_size``, of sliding windows."""
    parser.add_argument(
        "-step_size",
        type=Number(float, MIN_STEP_SIZE, 1),
        default=0.5,
        help="distance of tiles as a fraction of the patch (default: %(default)s)",
    )


def add_device(parser: argparse._ActionsContainer) -> None:
    """Add ``-device``."""
    devices = ("cuda", "cpu", "mps")
    parser.add_argument("-device", default="cuda", choices=devices, help="where networks run (default: %(default)s)")


def _fold(text: str) -> str:
    if text != "all" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a fold is a number or all, got {text}")
    return text


def add_disable_progress_bar(parser: argparse._ActionsContainer) -> None:
    """Add ``--disable_progress_bar``, which every command has that draws progress bars."""
    parser.add_argument("--disable_progress_bar", action="store_true", help="draw no progress bars")


def add_old_name(parser: argparse._ActionsContainer, old: str, new: str, **settings: Any) -> None:
    """Let a flag still be called by a former name, which no help shows.

    Parameters
    ----------
    parser
        Parser that has the flag.
    old, new
        Former and present name.
    settings
        ``type`` or ``action`` of the flag.
    """
    dest = new.lstrip("-")
    parser.add_argument(old, dest=dest, default=argparse.SUPPRESS, help=argparse.SUPPRESS, **settings)
