"""``nnunet_stochastic_make_rater_dataset``: one's own images and raters' masks as an nnU-Net dataset."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from nnunet_stochastic.commands._convert import EPILOG, add_common_arguments, carry_out, check_arguments
from nnunet_stochastic.commands._errors import report_errors
from nnunet_stochastic.commands._flags import Number, parse_arguments
from nnunet_stochastic.io.names import shown

__all__ = ["main"]


@report_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Make the dataset; return 0."""
    arguments = parse_arguments(_parser(), argv)
    check_arguments(arguments)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", arguments.name):
        raise ValueError(f"--name must be of letters, digits, '_', '-' and '.', got {shown(arguments.name)}")
    if (arguments.i_test is None) != (arguments.gt_raters_test is None):
        raise ValueError("-i_test and -gt_raters_test belong together: give both, or none and cases are drawn")
    labels = None if arguments.labels is None else _named_values(arguments.labels)
    # After parsing: imports take seconds, and a typing error should not wait for them.
    from nnunet_stochastic.datasets.conversion.rater_dataset import RaterFolders, plan_rater_dataset
    from nnunet_stochastic.datasets.conversion.rater_vote import Vote

    conversion = plan_rater_dataset(
        RaterFolders(arguments.i, arguments.gt_raters),
        arguments.d,
        name=arguments.name,
        channel_names=arguments.channel_names,
        labels=labels,
        how=Vote(arguments.vote, arguments.ties),
        test=None if arguments.i_test is None else RaterFolders(arguments.i_test, arguments.gt_raters_test),
        num_test=arguments.num_test,
        groups=arguments.groups,
        seed=arguments.seed,
        num_processes=arguments.np,
        show_progress=not arguments.disable_progress_bar,
    )
    return carry_out(conversion, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnunet_stochastic_make_rater_dataset",
        description="Make an nnU-Net dataset of your own images and the masks that several raters drew: images, each "
        "rater's mask, the vote of the raters as the label, dataset.json with num_raters, and cases for testing and "
        "validation. All files are read and checked before the first one is written.",
        epilog=EPILOG,
    )
    add = parser.add_argument
    add_common_arguments(
        parser, folder="folder of images: CASE_0000.nii.gz, CASE_0001.nii.gz … per channel, or CASE.nii.gz"
    )
    masks = (
        "CASE_rater0.nii.gz, CASE_rater1.nii.gz …, or a sub-folder per rater with CASE.nii.gz; or a folder per rater"
    )
    add(
        "-gt_raters",
        required=True,
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help=f"folder of each rater's segmentations: {masks}",
    )
    add("-i_test", type=Path, metavar="FOLDER", help="folder of images to test on, named as those of -i")
    add(
        "-gt_raters_test",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="folder of each rater's segmentations of -i_test, named as those of -gt_raters",
    )
    add(
        "-num_test",
        type=Number(int, 0, 1_000_000),
        metavar="N",
        help="number of patients whose cases are drawn for testing, without -i_test (default: a fifth)",
    )
    add(
        "--groups",
        type=Path,
        metavar="CSV",
        help="table case,patient of all cases: those of a patient come into one part, and patients.csv says so "
        "(default: each case is a patient)",
    )
    add("--name", required=True, metavar="NAME", help="name of the new dataset, DatasetNNN_NAME")
    add(
        "--channel_names",
        required=True,
        nargs="+",
        metavar="NAME",
        help="names of the channels in order, such as CT, or T1 FLAIR; nnU-Net normalises a channel called CT by the "
        "data set's intensities, others each image by itself",
    )
    add(
        "--labels",
        nargs="+",
        metavar="NAME=VALUE",
        help="classes and their values in the masks, which become 1, 2 … in this order; background is 0 (default: the "
        "values that the masks hold)",
    )
    add(
        "--vote",
        choices=("majority", "union", "intersection", "first"),
        default="majority",
        help="how labelsTr, which nnU-Net plans and validates on, is made of the raters: the class with most votes at "
        "a voxel; foreground where one rater, or where all raters say so; the first rater (default: %(default)s)",
    )
    add(
        "--ties",
        choices=("lowest", "highest", "background"),
        default="lowest",
        help="class that wins of those with as many votes: the lowest or the highest foreground label, or background "
        "(default: %(default)s)",
    )
    return parser


def _named_values(texts: Sequence[str]) -> dict[str, int]:
    labels: dict[str, int] = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        if not re.fullmatch(r"\S(.*\S)?", name) or not re.fullmatch(r"\d{1,9}", value):
            raise ValueError(f"--labels takes NAME=VALUE, such as nodule=1; got {shown(text)}")
        if name in labels:
            raise ValueError(f"--labels names {name} twice")
        if name == "ignore":
            raise ValueError("--labels cannot have ignore, on which raters do not vote; leave it out")
        labels[name] = int(value)
    return labels
