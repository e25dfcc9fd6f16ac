"""Flags that several commands have: one name, one meaning and one text each."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add_disable_progress_bar", "add_old_name", "add_seed"]


def add_seed(parser: argparse._ActionsContainer) -> None:
    """Add ``--seed``."""
    help_text = "seed of all random numbers; the same seed gives the same files (default: %(default)s)"
    parser.add_argument("--seed", type=int, default=0, metavar="N", help=help_text)


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
