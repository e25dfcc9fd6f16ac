"""Distances of the surfaces and lesion-wise Dice, means over the cases and classes of the ID set."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nnunet_stochastic.evaluation.entrants import failures
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun
from nnunet_stochastic.evaluation.structure_scores import STRUCTURE_METRICS
from nnunet_stochastic.evaluation.tasks import ARROWS
from nnunet_stochastic.report.page.tables.cells import INTERVALS, Table, add_interval, cell_of, mark_best

__all__ = ["surface_table"]

_HEADINGS = {"hd95_mm": "HD95 (mm)", "assd_mm": "ASSD (mm)", "nsd": "NSD", "lesion_dice": "lesion Dice"}


def surface_table(results: Sequence[EvaluatedRun]) -> Table | None:
    """A row per model; ``None`` where no evaluation has such a number: 2D images have no distances in mm."""
    numbers = {result: {metric: result.quality(metric) for metric in _HEADINGS} for result in results}
    known = [metric for metric in _HEADINGS if any(math.isfinite(found[metric]) for found in numbers.values())]
    if not known:
        return None
    tolerances = dict.fromkeys(result.number("nsd_tolerance_mm") for result in results)
    within = " or ".join(f"{tolerance:g}" for tolerance in tolerances if math.isfinite(tolerance))
    table = Table(
        "Surfaces and lesions of the ID set. HD95: 95 % Hausdorff distance; ASSD: average symmetric surface distance; "
        f"NSD: normalised surface Dice{f' within {within} mm' * bool(within)}; a structure that one lacks is as far "
        "off as the image's diagonal. Lesion Dice: mean over connected components."
        + (f" {INTERVALS}" if any("intervals" in result.summary for result in results) else ""),
        ("model",),
        tuple(_HEADINGS[metric] + ARROWS[STRUCTURE_METRICS[metric]] for metric in known),
    )
    for result, found in numbers.items():
        forms = ("{:.2f}" if metric.endswith("_mm") else "{:.3f}" for metric in known)
        cells = []
        for metric, form in zip(known, forms, strict=True):
            cells.append(cell_of(found[metric], form))
            add_interval(cells[-1], result.quality_interval(metric), form)
        table.rows.append(((result.label,), cells))
    failed = failures(results)
    for column, metric in enumerate(known):
        cells_of = ((result, cells[column]) for result, (_, cells) in zip(results, table.rows, strict=True))
        mark_best(cells_of, STRUCTURE_METRICS[metric], failed)
    return table
