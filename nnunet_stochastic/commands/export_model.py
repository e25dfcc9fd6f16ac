"""``nnunet_stochastic_export_model``: a trained model as a zip file, with all that its predictions need."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nnunet_stochastic.commands._errors import report_errors
from nnunet_stochastic.commands._flags import add_model_flags, parse_arguments
from nnunet_stochastic.commands._models import folds_of

__all__ = ["main"]


@report_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Write the zip file and print what was added to nnU-Net's export; return 0."""
    arguments = parse_arguments(_parser(), argv)
    # After parsing: nnU-Net takes seconds to import, and a typing error should not wait for it.
    from nnunet_stochastic.inference.model_export import export_model
    from nnunet_stochastic.io.output_locks import locked_output_file

    with locked_output_file(Path(arguments.o)):
        added = export_model(
            arguments.d,
            Path(arguments.o),
            trainer=arguments.tr,
            plans_name=arguments.p,
            configurations=arguments.c,
            folds=folds_of(arguments),
            checkpoints=arguments.chk,
            validation_predictions=arguments.exp_cv_preds,
            trust_checkpoint=arguments.trust_checkpoint,
        )
    folders = sorted({str(path.parent) for path in added})
    print(f"{arguments.o}: nnU-Net's export and {len(added)} files{''.join(f', in {folder}' for folder in folders)}")
    print(f"it is installed by\n  nnUNetv2_install_pretrained_model_from_zip {arguments.o}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnunet_stochastic_export_model",
        description="Export a trained model as nnUNetv2_export_model_to_zip does, with the files that the members of "
        "its predictions are made of, which nnU-Net leaves out (SWAG: swag.pth, swag/; Laplace: laplace.pth). Its "
        "flags mean the same here.",
    )
    add = parser.add_argument
    add("-o", required=True, metavar="FILE", help="output file, a zip")
    add("-d", required=True, metavar="DATASET", help="name or number of the dataset the model was trained on")
    add_model_flags(parser)
    add("-c", required=True, nargs="+", metavar="CONFIGURATION", help="configurations of the model")
    add(
        "-chk",
        nargs="+",
        default=["checkpoint_final.pth"],
        metavar="FILE",
        help="checkpoints of each fold (default: checkpoint_final.pth)",
    )
    add("--exp_cv_preds", action="store_true", help="export nnU-Net's predictions of the validation cases, too")
    return parser
