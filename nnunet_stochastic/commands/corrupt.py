"""``nnunet_stochastic_corrupt``: corrupted copies of test images, as out-of-distribution test sets."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_stochastic.commands._errors import report_errors, say_total_time
from nnunet_stochastic.commands._flags import add_disable_progress_bar, add_processes, add_seed, parse_arguments
from nnunet_stochastic.datasets.corruptions import DEFAULT_SHIFTS, SHIFTS
from nnunet_stochastic.io.names import counted, few

if TYPE_CHECKING:
    from nnunet_stochastic.datasets.corruptions.folder import CorruptionReport

__all__ = ["main"]


@report_errors
@say_total_time
def main(argv: Sequence[str] | None = None) -> int:
    """Corrupt a folder of images; the exit status is 0 when every image was written."""
    arguments = parse_arguments(_parser(), argv)
    ranges: dict[str, tuple[float, float] | None] = dict.fromkeys(arguments.shifts)
    if unused := [name for name, _ in arguments.ranges if name not in ranges]:
        raise ValueError(f"--ranges has {', '.join(unused)}, which --shifts does not name")
    ranges |= arguments.ranges
    # After parsing: torch takes seconds to import, and a typing error should not wait for it.
    from nnunet_stochastic.datasets.corruptions.folder import corrupt_folder
    from nnunet_stochastic.io.output_locks import locked_output_folders

    with locked_output_folders(arguments.o / name for name in ranges):  # each may have a command of its own
        report = corrupt_folder(
            arguments.i,
            arguments.o,
            ranges=ranges,
            labels=arguments.gt,
            seed=arguments.seed,
            num_threads=arguments.np,
            resume=arguments.continue_corruption,
            show_progress=not arguments.disable_progress_bar,
        )
    total = report.num_cases * len(ranges)
    written = counted(report.num_written, "corrupted copy")
    complete = f", {total - report.num_written} were complete" if report.num_written < total else ""
    print(f"{counted(report.num_cases, 'case')}, {counted(len(ranges), 'shift')}: {written} written{complete}")
    if report.constant:
        print(f"a channel is constant, and stays as it is, in {', '.join(report.constant)}")
    for warning in _warnings(report, of_structures=arguments.gt is not None):
        print(f"warning: {warning}", file=sys.stderr)
    print("\npredict each of them as you predict the images themselves:")
    for name, folder in report.folders.items():
        print(
            f"  nnunet_stochastic_predict -i {shlex.quote(str(folder))} -o predictions_{name} --save_probabilities ..."
        )
    predictions = " ".join(f"{name}=predictions_{name}" for name in report.folders)
    print("and compare with the prediction of the images:")
    print(f"  nnunet_stochastic_evaluate -pred predictions -gt labelsTs -ood {predictions}")
    print("with -ood_gt, too, for scores of theirs: the references are those of the images")
    return 0


def _warnings(report: CorruptionReport, *, of_structures: bool) -> Iterator[str]:
    """A line per shift that leaves too little of images, or all of them."""
    what = "of the contrast between a structure and its surroundings" if of_structures else "of the image's contrast"
    for name, cases in report.gone.items():
        yield (
            f"{name}: less than a quarter {what} is left, or it is lost in noise, in {few(cases)}: no model can find "
            f"what is not there; choose a weaker range, such as --ranges {name}={_weaker(name)}"
        )
    for name, cases in report.unchanged.items():
        yield f"{name}: nearly unchanged: {few(cases)}; they are not out of distribution, choose a stronger range"


def _weaker(name: str) -> str:
    """A range at the weaker end of the default one, or further there."""
    shift = SHIFTS[name]
    low, high = shift.default_range
    if name == "jpeg":
        return f"{high:g}:{2 * high:g}"
    least = max(shift.allowed_range[0], low / 2)
    return f"{least:g}:{max(low, least):g}"


def _describe(name: str) -> str:
    shift = SHIFTS[name]
    low, high = shift.default_range
    limits = ""
    if shift.with_default:
        limits = (
            "; without --ranges a side counts as {longest_mm:g} mm at most, where the spacing is known, and as "
            "{fewest_pixels:g} pixels at least"
        ).format(**shift.with_default)
    return f"{name}: {shift.strength} {low:g} to {high:g} ({shift.meaning}{limits})"


def _parser() -> argparse.ArgumentParser:
    described = "; ".join(map(_describe, SHIFTS))
    parser = argparse.ArgumentParser(
        prog="nnunet_stochastic_corrupt",
        description="Write a corrupted copy of each image of a folder for each shift, in the same geometry, naming "
        "and type of numbers: test sets that are out of distribution, with the same reference segmentations.",
        epilog=f"Strengths are uniform over a range. {described}. Planes are across the axis of the coarsest spacing "
        "(the first of equal ones). Values of integer images are rounded and clipped to the range of their type. "
        "manifest.json in each folder says what was done to each image, and how much of its contrast is left. Earlier "
        "versions blurred by --ranges blur=0.05:0.2, which wipes small structures out.",
    )
    add = parser.add_argument
    add("-i", required=True, type=Path, metavar="FOLDER", help="folder of images in nnU-Net's naming, such as imagesTs")
    add(
        "-gt",
        type=Path,
        metavar="FOLDER",
        help="folder of reference segmentations, such as labelsTs: a warning then names the images in which a shift "
        "wipes a structure out; the copies are the same without it (default: the whole image's contrast is looked at)",
    )
    add("-o", required=True, type=Path, metavar="OUT", help="output folder; gets a folder per shift")
    add(
        "--shifts",
        nargs="+",
        choices=tuple(SHIFTS),
        default=DEFAULT_SHIFTS,
        metavar="SHIFT",
        help=f"shifts to write, of: {', '.join(SHIFTS)} (default: {' '.join(DEFAULT_SHIFTS)})",
    )
    add(
        "--ranges",
        nargs="+",
        type=_range,
        default=[],
        metavar="SHIFT=LOW:HIGH",
        help="ranges of the strengths, for instance blur=0.02:0.1 (default: as below)",
    )
    add_seed(parser)
    add_processes(
        parser,
        "number of cases at a time, in threads; each needs about 30 bytes per voxel, 50 for ghosting, 80 for "
        "bias_field",
    )
    add(
        "--continue_corruption",
        action="store_true",
        help="go on after an interruption: keep the images that are complete in the output folder",
    )
    add_disable_progress_bar(parser)
    return parser


def _range(text: str) -> tuple[str, tuple[float, float]]:
    name, _, limits = text.partition("=")
    low, _, high = limits.partition(":")
    try:
        return name, (float(low), float(high))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"a range is SHIFT=LOW:HIGH, for instance blur=0.02:0.1, got {text}"
        ) from error
