"""``nnunet_stochastic_ensemble_splits``: make the folds of a dataset random initialisations on the same data."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from nnunet_stochastic.commands._errors import report_errors
from nnunet_stochastic.commands._flags import Number, add_old_name, parse_arguments
from nnunet_stochastic.io.names import counted

__all__ = ["main"]


@report_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Write splits_final.json and print what to run next; return 0."""
    arguments = parse_arguments(_parser(), argv)
    # After parsing: nnU-Net takes seconds to import, and a typing error should not wait for it.
    from nnunet_stochastic.datasets.ensemble_splits import write_ensemble_splits

    result = write_ensemble_splits(
        arguments.d, num_members=arguments.num_members, fold=arguments.f, overwrite=arguments.overwrite
    )
    sizes = f"{len(result.split['train'])} training and {counted(len(result.split['val']), 'validation case')}"
    if result.written:
        print(f"{result.file}: {arguments.num_members} members, each with the same {sizes}")
    else:
        print(
            f"{result.file} already gives {arguments.num_members} members the same {sizes}; nothing was written; for "
            "another split put back the file of different folds first"
        )
    if result.backup is not None:
        print(f"the splits that were there are kept in {result.backup}")
    print("\ntrain every member (CONFIGURATION is for instance 3d_fullres; add -tr and -p as you need them):")
    for member in range(arguments.num_members):
        print(f"  nnUNetv2_train {arguments.d} CONFIGURATION {member}")
    print("models of these folds that were trained on other splits are no members: train them again")
    members = " ".join(map(str, range(arguments.num_members)))
    print("then predict with all of them:")
    print(f"  nnunet_stochastic_predict -i imagesTs -o out -d {arguments.d} -c CONFIGURATION -f {members}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnunet_stochastic_ensemble_splits",
        description="Write splits_final.json so that all folds have the same training and validation cases. Trained "
        "folds then differ by their random initialisation alone, and are a deep ensemble.",
        epilog="Members are folds: with --num_members M train the folds 0 to M-1, with M above 5 too; nnU-Net splits "
        "at random for a fold that the file does not have.",
    )
    add = parser.add_argument
    add("-d", required=True, metavar="DATASET", help="name or number of a preprocessed dataset")
    add(
        "--num_members",
        type=Number(int, 2, 1000),
        default=5,
        metavar="M",
        help="number of members, at least 2 (default: %(default)s)",
    )
    add(
        "-f",
        type=Number(int, 0, 1000),
        default=0,
        metavar="FOLD",
        help="fold whose present split all members get; of nnU-Net's default where there are no splits yet "
        "(default: %(default)s)",
    )
    add_old_name(parser, "-members", "--num_members", type=int)
    add_old_name(parser, "-fold", "-f", type=int)
    add("--overwrite", action="store_true", help="replace a splits_final.json with other splits; a copy is kept")
    return parser
