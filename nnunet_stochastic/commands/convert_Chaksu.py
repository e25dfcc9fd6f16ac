"""``nnunet_stochastic_convert_Chaksu``: Chákṣu, optic disc and cup by five ophthalmologists, for nnU-Net."""

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
        "Chaksu",
        "Make an nnU-Net dataset of Chákṣu (figshare 20123135): crops around the optic disc, 128 x 128 pixels, with "
        "the masks of all five ophthalmologists. Remidio is the dataset; images of Bosch and Forus, out of "
        "distribution, go to imagesOOD_Bosch and imagesOOD_Forus.",
    )
    add_arguments(parser, folder="folder that holds the unpacked Train and Test")
    arguments = parse_arguments(parser, argv)
    check_arguments(arguments)
    # After parsing: imports take seconds, and a typing error should not wait for them.
    from nnunet_stochastic.datasets.conversion.chaksu import plan_chaksu

    return carry_out(plan_chaksu(arguments.i, arguments.d, seed=arguments.seed), arguments)
