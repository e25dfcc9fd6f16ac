"""Measure speed and memory against what a user would use instead, and print one table of ratios."""

from __future__ import annotations

import argparse
import io
import os
import sys
from contextlib import redirect_stdout
from importlib import import_module

import torch
from rich import box
from rich.console import Console
from rich.table import Table

#: Files of this folder, each with a function ``measure(device, repeats)``.
BENCHMARKS = (
    "predict_command",
    "clinical_size",
    "predict_in_process",
    "many_classes",
    "training_step",
    "sampling_traffic",
    "certain_voxels",
    "low_rank_sampling",
    "basis_sampling",
    "exact_estimator",
    "last_layer_members",
    "generative_models",
    "inference_memory",
    "sample_memory",
    "whole_samples",
    "structure_tables",
    "export_memory",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which, of: {' '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--repeats", type=int, default=5, help="how often each side is measured (default: %(default)s)")
    devices = ("cpu", "cuda")
    parser.add_argument("-device", default="cpu", choices=devices, help="where networks run (default: %(default)s)")
    parser.add_argument("--device", choices=devices, default=argparse.SUPPRESS, help=argparse.SUPPRESS)  # former name
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHMARKS):
        parser.error(f"unknown: {' '.join(sorted(unknown))}; choose from {' '.join(BENCHMARKS)}")
    if arguments.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {arguments.repeats}")

    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler would write to the terminal
    console = Console(file=sys.stdout)
    table = Table(
        title=f"on {arguments.device}",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        caption="ratio: ours over theirs, median of the repeats; range: least and greatest",
    )
    for heading in ("work", "against"):
        table.add_column(heading)
    for heading in ("quantity", "ratio", "range", "limit", "met"):
        table.add_column(heading, justify="right")
    for name in arguments.names or BENCHMARKS:
        with console.status(name), redirect_stdout(io.StringIO()):  # nnU-Net prints how it finds a trainer
            rows = import_module(name).measure(torch.device(arguments.device), arguments.repeats)
        for row in rows:
            extent = f"{min(row.ratios):.2f}–{max(row.ratios):.2f}"
            met = "[green]yes" if row.met else "[red]no"
            judged = ("", "") if row.limit is None else (f"{row.limit:.2f}", met)
            table.add_row(row.work, row.against, row.quantity, f"{row.ratio:.2f}", extent, *judged)
    console.print(table)


if __name__ == "__main__":
    main()
