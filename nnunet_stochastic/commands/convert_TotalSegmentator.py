"""``nnunet_stochastic_convert_TotalSegmentator``: structures of TotalSegmentator's CT data set, for nnU-Net."""

from __future__ import annotations

from collections.abc import Sequence

from nnunet_stochastic.commands._convert import add_arguments, carry_out, check_arguments, converter_parser
from nnunet_stochastic.commands._errors import report_errors
from nnunet_stochastic.commands._flags import parse_arguments

__all__ = ["main"]


@report_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Convert the data set; return 0."""
    parser = converter_parser(
        "TotalSegmentator",
        "Make an nnU-Net dataset of one or more structures of TotalSegmentator's CT data set, version 2: the scans "
        "that show them, 80/20 for training and testing, of the former 80/20 for training and validation.",
    )
    add_arguments(parser, folder="folder that holds s0000, s0001 and so on, and meta.csv")
    parser.add_argument(
        "-structures",
        required=True,
        nargs="+",
        metavar="NAME",
        help="files of the folder segmentations without ending, for instance pancreas, gallbladder, duodenum, "
        "adrenal_gland_left; the first becomes label 1",
    )
    arguments = parse_arguments(parser, argv)
    check_arguments(arguments)
    # After parsing: imports take seconds, and a typing error should not wait for them.
    from nnunet_stochastic.datasets.conversion.totalsegmentator import plan_totalsegmentator

    conversion = plan_totalsegmentator(
        arguments.i,
        arguments.d,
        arguments.structures,
        seed=arguments.seed,
        num_processes=arguments.np,
        show_progress=not arguments.disable_progress_bar,
    )
    return carry_out(conversion, arguments)
