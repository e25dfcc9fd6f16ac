"""``nnunet_stochastic_preprocess_raters``: preprocess each rater's masks for training, after nnUNetv2_preprocess."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nnunet_stochastic.commands._errors import report_errors, say_total_time
from nnunet_stochastic.commands._flags import add_disable_progress_bar, add_old_name, add_processes, parse_arguments
from nnunet_stochastic.io.names import counted

__all__ = ["main"]


@report_errors
@say_total_time
def main(argv: Sequence[str] | None = None) -> int:
    """Preprocess the raters; return 0 if all cases are complete and 1 if some failed."""
    arguments = parse_arguments(_parser(), argv)
    # After parsing: nnU-Net takes seconds to import, and a typing error should not wait for it.
    from nnunet_stochastic.datasets.rater_preprocessing import RaterPreprocessing
    from nnunet_stochastic.io.output_locks import locked_output_folders

    threads = {"num_threads": arguments.np, "show_progress": not arguments.disable_progress_bar}
    datasets = [
        RaterPreprocessing.find(name, plans_name=arguments.p, configurations=arguments.c) for name in arguments.d
    ]
    with locked_output_folders((path for dataset in datasets for path in dataset.output_folders), option="-d"):
        for dataset in datasets:
            dataset.check(**threads)
        if problems := [f"  {dataset.dataset_name}: {line}" for dataset in datasets for line in dataset.problems]:
            raise ValueError("nothing was preprocessed, because of these problems:\n" + "\n".join(problems))

        for dataset in datasets:
            num_done = dataset.run(**threads, verbose=arguments.verbose)
            print(
                f"{dataset.dataset_name}, {', '.join(dataset.configurations)}: {counted(num_done, 'case')} "
                f"preprocessed, {dataset.num_complete} were complete, {len(dataset.failures)} failed"
            )
    failures = [f"  {d.dataset_name}: {case}: {why}" for d in datasets for case, why in d.failures.items()]
    if failures:
        print("these cases failed; run the command again when they are repaired:", *failures, sep="\n", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnunet_stochastic_preprocess_raters",
        description="Preprocess the masks of several raters, ratersTr/CASE_rater0.nii.gz and so on (as many as "
        "num_raters in dataset.json), with the images' own crop and resampling. Trainers of this package then "
        "train on one rater at random each time a case is loaded. Run it after nnUNetv2_preprocess.",
        epilog="Complete cases are skipped, so an interrupted command is simply run again; a case is done anew when "
        "its files, the plans or the labels have changed. Results go to a folder beside the preprocessed images, with "
        "_raters behind its name.",
    )
    add = parser.add_argument
    add("-d", required=True, nargs="+", metavar="DATASET", help="names or numbers of the datasets")
    add("-p", default="nnUNetPlans", metavar="PLANS", help="plans (default: %(default)s)")
    add_old_name(parser, "-plans_name", "-p")
    add(
        "-c",
        nargs="+",
        metavar="CONFIGURATION",
        help="configurations (default: those of the plans whose images are preprocessed)",
    )
    add_processes(parser, "number of cases at a time, in threads; each needs memory for its image")
    add_disable_progress_bar(parser)
    add_old_name(parser, "--no_pbar", "--disable_progress_bar", action="store_true")
    add("--verbose", action="store_true", help="print more: what nnU-Net's preprocessor does")
    return parser
