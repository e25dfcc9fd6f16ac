"""``nnunet_stochastic_convert_CURVAS``: CURVAS, abdominal organs in CT by several radiologists, for nnU-Net."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunet_stochastic.commands._convert import add_arguments, carry_out, check_arguments, converter_parser
from nnunet_stochastic.commands._errors import report_errors
from nnunet_stochastic.commands._flags import add_old_name, parse_arguments

__all__ = ["main"]


@report_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Convert the data set; return 0."""
    parser = converter_parser(
        "CURVAS",
        "Make an nnU-Net dataset of CURVAS: pancreas, kidney and liver with the masks of all radiologists. Without "
        "-i_val and -i_test cases for validation and testing are drawn from -i, a fifth each time.",
    )
    add_arguments(parser, folder="folder that holds a folder per case, with image.nii.gz and annotation_1.nii.gz …")
    for flag, old, kind in (("-i_val", "-val", "validation"), ("-i_test", "-test", "test")):
        parser.add_argument(flag, type=Path, metavar="FOLDER", help=f"folder of {kind} cases, laid out as -i")
        add_old_name(parser, old, flag, type=Path)
    arguments = parse_arguments(parser, argv)
    check_arguments(arguments)
    # After parsing: imports take seconds, and a typing error should not wait for them.
    from nnunet_stochastic.datasets.conversion.curvas import plan_curvas

    conversion = plan_curvas(
        arguments.i, arguments.d, validation=arguments.i_val, test=arguments.i_test, seed=arguments.seed
    )
    return carry_out(conversion, arguments)
