"""How decisions hold over many random divisions of annotated cases into validation and test, by patient.

    python divide.py PREDICTIONS -gt LABELS -gt_raters RATERS --groups patients.csv [--validation_share 0.5]

PREDICTIONS is a folder of nnunet_stochastic_predict with --save_probabilities, and with --save_samples and --lesions
for what rests on them. Of each division everything is fitted to some of the patients and judged by the others; a table
of the means over the divisions is printed, and all numbers are written to PREDICTIONS/divisions.json.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nnunet_stochastic.commands._errors import report_errors
from nnunet_stochastic.commands._flags import Number
from nnunet_stochastic.decisions.experiment import split_experiment
from nnunet_stochastic.decisions.statistics import CaseStatistics
from nnunet_stochastic.evaluation.calibration import case_statistics
from nnunet_stochastic.evaluation.parallel import map_in_processes
from nnunet_stochastic.evaluation.predicted_dataset import read_dataset
from nnunet_stochastic.evaluation.validation_cases import find_validation_cases
from nnunet_stochastic.io.text import write_json
from nnunet_stochastic.report import print_table


@report_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path)
    parser.add_argument("-gt", type=Path, required=True)
    parser.add_argument("-gt_raters", type=Path)
    parser.add_argument("--groups", type=Path, required=True)
    parser.add_argument(
        "--validation_share", type=Number(float, 0, 1), default=0.5, help="of the patients (default: %(default)s)"
    )
    parser.add_argument("--num_splits", type=Number(int, 1, 10_000), default=200)
    parser.add_argument("--seed", type=Number(int, 0, 2**31), default=0)
    parser.add_argument("-np", type=Number(int, 1, 1024), default=2)
    arguments = parser.parse_args(argv)
    dataset = read_dataset(arguments.predictions, None, option="PREDICTIONS")
    validation = find_validation_cases(
        arguments.predictions,
        arguments.gt,
        arguments.gt_raters,
        dataset,
        groups=arguments.groups,
        probabilities=True,
    )
    if validation.problems:
        raise ValueError("; ".join(validation.problems))
    if validation.without_structures is not None:
        raise ValueError(validation.without_structures)
    read = functools.partial(case_statistics, labels=dataset.labels, reader=dataset.reader)
    found = map_in_processes(
        read, validation.cases, num_processes=arguments.np, description="reading", show_progress=sys.stderr.isatty()
    )
    statistics = []
    for case, of_case in zip(validation.files, found, strict=True):
        if not isinstance(of_case.decisions, CaseStatistics):
            raise ValueError(f"{case.name}: {of_case.decisions or 'the record says nothing of its structures'}")
        statistics.append(of_case.decisions)
    result = split_experiment(
        statistics,
        labels=dataset.labels.by_name,
        num_splits=arguments.num_splits,
        validation_share=arguments.validation_share,
        seed=arguments.seed,
    )
    write_json(arguments.predictions / "divisions.json", result)
    num_patients = len({case.patient for case in validation.cases})
    table = Table(title=f"{len(validation.cases)} cases of {num_patients} patients")
    for heading in ("number", "mean", "sd", "divisions"):
        table.add_column(heading, justify="left" if heading == "number" else "right")
    for name, values in result["results"].items():
        spread = "" if values["sd"] is None else f"{values['sd']:.3f}"
        table.add_row(name, f"{values['mean']:.3f}", spread, str(values["num_splits"]))
    print_table(Console(), table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
