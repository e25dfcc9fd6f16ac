"""The files of an evaluation: summary.json, curves.json, the tables and the reliability diagram."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib import style

from nnunet_stochastic.conventions import find_convention
from nnunet_stochastic.evaluation.evaluate import Evaluation
from nnunet_stochastic.evaluation.scores import ALL_CLASSES, RATERS, REFERENCE
from nnunet_stochastic.io.staging import staged_file
from nnunet_stochastic.io.text import write_json, write_table, write_text
from nnunet_stochastic.labels import EvaluatedLabels
from nnunet_stochastic.report.decision_tables import decision_rows
from nnunet_stochastic.report.pictures import PICTURE_DPI
from nnunet_stochastic.report.reliability import reliability_diagrams

__all__ = ["write_evaluation"]


def write_evaluation(evaluation: Evaluation, summary: Mapping[str, Any], labels: EvaluatedLabels, output: Path) -> None:
    """Write all but the pictures of cases.

    Parameters
    ----------
    evaluation
        Result of ``evaluate_sets``.
    summary
        Content of summary.json: the evaluation's summary with folders and model.
    labels
        The classes.
    output
        Folder to write to, which exists.
    """
    for name, content in (("summary.json", summary), ("curves.json", evaluation.curves)):
        write_json(output / name, content, allow_nan=False)
    tables = {"cases.csv": evaluation.rows, "images.csv": evaluation.images, "scores.csv": evaluation.scores}
    for name, table in tables.items():
        write_text(output / name, table.to_csv(index=False))
    if rows := decision_rows(summary):
        write_table(output / "decisions.csv", list(rows[0]), rows)
    else:
        (output / "decisions.csv").unlink(missing_ok=True)  # of an earlier evaluation that judged some
    # Calibration per class against the annotation that was asked for last: raters where there are any.
    per_class = evaluation.reliability[RATERS if RATERS in evaluation.reliability else REFERENCE]
    with style.context("default"), staged_file(output / "reliability.png") as staged:
        figure = reliability_diagrams(
            {annotation: bins[ALL_CLASSES] for annotation, bins in evaluation.reliability.items()},
            {name: per_class[name] for name in labels.names},
            find_convention(summary["convention"]),
        )
        figure.savefig(staged, dpi=PICTURE_DPI)
