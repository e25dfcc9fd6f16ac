"""What the commands that make a dataset of images and masks have in common: options, and what they print.

The end is always the command of nnU-Net to type next.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_stochastic.commands._errors import minutes
from nnunet_stochastic.commands._flags import Number, add_disable_progress_bar, add_old_name, add_processes, add_seed
from nnunet_stochastic.io.names import counted

if TYPE_CHECKING:
    from nnunet_stochastic.datasets.conversion.common import Conversion, Skipped

__all__ = ["EPILOG", "add_arguments", "add_common_arguments", "carry_out", "check_arguments", "converter_parser"]

EPILOG = (
    "Writes nnUNet_raw/DatasetNNN_… and, where nnUNet_preprocessed is set, splits_final.json for nnU-Net; "
    "patients.csv says which cases are of one patient (nnunet_stochastic_evaluate --groups). "
    "Complete cases are skipped, so an interrupted command is simply run again."
)
_NNUNETS_DEFAULT = "ExperimentPlanner"
_PLANS = {
    _NNUNETS_DEFAULT: "nnUNetPlans",
    "nnUNetPlannerResEncM": "nnUNetResEncUNetMPlans",
    "nnUNetPlannerResEncL": "nnUNetResEncUNetLPlans",
}


def converter_parser(name: str, description: str) -> argparse.ArgumentParser:
    """Parser of a command that converts the data set ``name``."""
    return argparse.ArgumentParser(
        prog=f"nnunet_stochastic_convert_{name}",
        description=description,
        epilog=EPILOG,
    )


def add_arguments(parser: argparse.ArgumentParser, *, folder: str) -> None:
    """Options of all converters, with their former names; ``folder`` says what -i is."""
    add_common_arguments(parser, folder=folder)
    add_old_name(parser, "-seed", "--seed", type=int)
    add_old_name(parser, "--no_pbar", "--disable_progress_bar", action="store_true")


def add_common_arguments(parser: argparse.ArgumentParser, *, folder: str) -> None:
    """Options of all commands that make a dataset; ``folder`` says what -i is."""
    add = parser.add_argument
    add("-i", required=True, type=Path, metavar="FOLDER", help=folder)
    add("-d", required=True, type=Number(int, 1, 999), metavar="NNN", help="number of the new dataset, 1 to 999")
    add_seed(parser)
    add_processes(parser, "number of processes; each needs memory for one image and its masks")
    add("--dry_run", action="store_true", help="print what would be written and what skipped, and stop")
    add("--overwrite", action="store_true", help="replace a dataset that this command wrote earlier")
    add_disable_progress_bar(parser)


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raise ``ValueError`` for numbers out of range."""
    if arguments.seed < 0:
        raise ValueError(f"--seed must not be negative, got {arguments.seed}")


def carry_out(conversion: Conversion, arguments: argparse.Namespace) -> int:
    """Write the dataset, or list what would be written; return 0."""
    from nnunet_stochastic.datasets.conversion.common import part_suffix
    from nnunet_stochastic.datasets.conversion.run import PlannedFolder, planned_path
    from nnunet_stochastic.io.output_locks import locked_output_folder

    def planned() -> PlannedFolder:
        folder = PlannedFolder(conversion, overwrite=arguments.overwrite)
        print(folder.path, *conversion.notes, sep="\n  ")
        return folder

    if arguments.dry_run:
        folder = planned()
        by_folder = defaultdict(list)
        for name in sorted(folder.missing):
            by_folder[f"images{part_suffix(conversion.parts[name])}"].append(name)
        for images, names in by_folder.items():
            print(f"\n{counted(len(names), 'case')} would be written to {images}:", *names, sep="\n  ")
        complete = counted(len(conversion.parts) - len(folder.missing), "case")
        print(f"\ncomplete are {complete}; nothing was written")
        _print_skipped(conversion.skipped)
        return 0

    start = time.monotonic()
    with locked_output_folder(planned_path(conversion), option="-d"):
        folder = planned()
        result = folder.run(num_processes=arguments.np, show_progress=not arguments.disable_progress_bar)
    counts: Counter[str] = Counter()
    for part, count in result.counts.items():
        counts[f"images{part_suffix(part)}"] += count
    print(f"\ncomplete: {', '.join(f'{count} in {images}' for images, count in sorted(counts.items()))}")
    _print_skipped(result.skipped)
    if result.splits is None:
        print(
            f"\nnnUNet_preprocessed is not set: before training copy {folder.path / 'splits_final.json'} to "
            f"nnUNet_preprocessed/{conversion.dataset_name}"
        )
    elif result.splits_kept:
        print(
            f"\n{result.splits} holds other splits and was kept; those of this dataset are in "
            f"{folder.path / 'splits_final.json'}"
        )
    else:
        print(f"\ntraining and validation cases are fold 0: {result.splits}")
    print(f"\ntotal time: {minutes(time.monotonic() - start)}")  # in front of the command to type next
    print("\nnext:", *_next_commands(conversion, arguments.d), sep="\n  ")
    return 0


def _next_commands(conversion: Conversion, number: int) -> list[str]:
    configuration = conversion.configuration
    plans = _PLANS[conversion.planner]
    planner = "" if conversion.planner == _NNUNETS_DEFAULT else f" -pl {conversion.planner}"
    commands = [f"nnUNetv2_plan_and_preprocess -d {number}{planner} -c {configuration} --verify_dataset_integrity"]
    if "num_raters" in conversion.description:
        commands.append(f"nnunet_stochastic_preprocess_raters -d {number} -p {plans} -c {configuration}")
    return commands


def _print_skipped(skipped: Iterable[Skipped]) -> None:
    by_reason: dict[str, list[str]] = defaultdict(list)
    for skip in skipped:
        by_reason[skip.reason].append(skip.name)
    if by_reason:
        print("\nskipped:")
    for reason, names in by_reason.items():
        print(f"  {reason} ({len(names)}):", *names, sep="\n    ")
