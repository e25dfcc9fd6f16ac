"""``nnunet_stochastic_convert_CURVAS``: CURVAS, abdominal organs in CT by several radiologists, for nnU-Net."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunet_stochastic.commands._convert import add_arguments, carry_out, check_arguments, converter_parser
from nnunet_stochastic.commands._errors import report_errors

__all__ = ["main"]


@report_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Convert the data set; return 0."""
    parser = converter_parser(
        "CURVAS",
        "Makes an nnU-Net dataset of CURVAS: pancreas, kidney and liver with the masks of all radiologists. Without "
        "-val and -test cases for validation and testing are drawn from -i, a fifth each time.",
    )
    add_arguments(parser, folder="the folder that holds a folder per case, with image.nii.gz and annotation_1.nii.gz …")
    parser.add_argument("-val", type=Path, metavar="FOLDER", help="validation cases, laid out as -i")
    parser.add_argument("-test", type=Path, metavar="FOLDER", help="test cases, laid out as -i")
    arguments = parser.parse_args(argv)
    check_arguments(arguments)
    # After parsing: imports take seconds, and a typing error should not wait for them.
    from nnunet_stochastic.datasets.conversion.curvas import plan_curvas

    conversion = plan_curvas(
        arguments.i, arguments.d, validation=arguments.val, test=arguments.test, seed=arguments.seed
    )
    return carry_out(conversion, arguments)
