"""``nnunet_stochastic_merge``: predictions of sub-models of one task as one prediction."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nnunet_stochastic.commands._errors import report_errors, say_total_time
from nnunet_stochastic.commands._flags import parse_arguments
from nnunet_stochastic.io.names import counted

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnunet_stochastic_merge",
        description="Merge predictions of several models of the same images, each of other structures, into one label "
        "map per case with its uncertainty maps and volumes: such as those of the five models that TotalSegmentator "
        "divides its structures among. Structures are numbered 1, 2 and so on through the folders of -i, in their "
        "order. Where several models have a structure, that of the last one is taken; uncertainty.json counts these "
        "voxels (overlap_voxels).",
        epilog="A map is the maximum of the models' maps at each voxel: the models together are at least as uncertain "
        "as each of them. So the total uncertainty is at most aleatoric + epistemic, and not their sum. Volumes are "
        "those of the merged label map; mean, sd and percentiles over whole samples (--save_samples of the "
        "predictions) are those of the model that has the structure.",
    )
    add = parser.add_argument
    add(
        "-i",
        type=Path,
        nargs="+",
        metavar="FOLDER",
        required=True,
        help="folder of predictions of each model (output of nnunet_stochastic_predict), at least two, all of the same "
        "images and with the same maps",
    )
    add(
        "-o",
        type=Path,
        metavar="FOLDER",
        required=True,
        help="output folder; made if missing, what an earlier merge has written there is replaced",
    )
    return parser


@report_errors
@say_total_time
def main(argv: Sequence[str] | None = None) -> int:
    """Merge; return 0."""
    arguments = parse_arguments(_parser(), argv)
    # After parsing: these imports take seconds, and a typing error should not wait for them.
    from nnunet_stochastic.evaluation.merging import MAPS_RULE, Merge, read_parts

    merge = Merge(tuple(read_parts(arguments.i)), arguments.o)
    cases = merge.run()
    structures = counted(len(merge.labels) - 1, "structure")
    print(f"{counted(len(cases), 'case')} with {structures} of {len(merge.parts)} models: {arguments.o}")
    print(f"maps: {MAPS_RULE}")
    if overlaps := sum(entry["overlap_voxels"] for entry in cases.values()):
        print(f"note: several models have a structure in {counted(overlaps, 'voxel')}; that of the last one was taken")
    return 0
