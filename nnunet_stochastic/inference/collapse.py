"""Predictions that look like uncertainty and are none: collapsed members, and samples that say nothing.

Epistemic collapse: members that agree so much that the epistemic uncertainty is a small part of the total.

ENT (Christensen et al., Rethinking Uncertainty Quantification and Entanglement in Image Segmentation; section 4,
"Epistemic collapse", and section 5): where EU << AU, the total says no more than the aleatoric part.
What is watched is the ratio of an image's mean EU to its mean AU. As a correction after the fact ENT proposes to
multiply EU with the mean AU/EU before the total is computed; here that factor is measured on earlier predictions, of
validation images say, so that it does not depend on the images that happen to be predicted together.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_stochastic.collapse import COLLAPSED_BELOW
from nnunet_stochastic.io.result_schemas import PredictionRecord
from nnunet_stochastic.io.text import read_json

__all__ = [
    "STAND_IN_NOTE",
    "collapse_warning",
    "degeneration_warning",
    "epistemic_factor",
    "epistemic_ratio",
]

#: What to say of the epistemic map of one member.
STAND_IN_NOTE = (
    "one member: its aleatoric samples stand in for the members of an ensemble, so the epistemic map shows how much "
    "single samples disagree and is not to be read as epistemic uncertainty (what the model does not know); that takes "
    "several members, for instance folds (-f 0 1 2 3 4)"
)


def epistemic_ratio(entry: Mapping[str, Any], *, factor: float = 1.0) -> float | None:
    """Mean EU / mean AU of a case, before any factor; ``None`` where a map is missing or AU is 0 everywhere."""
    aleatoric, epistemic = entry.get("mean_aleatoric"), entry.get("mean_epistemic")
    if not aleatoric or epistemic is None:
        return None
    return epistemic / factor / aleatoric


def collapse_warning(cases: Mapping[str, Mapping[str, Any]], *, num_members: int) -> str | None:
    """What to tell the user of the cases of a record whose epistemic uncertainty has collapsed, if there are any.

    Parameters
    ----------
    cases
        Entries of uncertainty.json.
    num_members
        Number of members E; with one member its aleatoric samples stand in.
    """
    ratios: dict[str, float] = {
        name: ratio for name, entry in cases.items() if (ratio := entry.get("epistemic_to_aleatoric")) is not None
    }
    collapsed = {name: ratio for name, ratio in ratios.items() if ratio < COLLAPSED_BELOW}
    if not collapsed:
        return None
    lowest = min(collapsed, key=collapsed.__getitem__)
    found = (
        f"epistemic uncertainty has collapsed: mean EU/AU is below {COLLAPSED_BELOW} in {len(collapsed)} of "
        f"{len(ratios)} cases (lowest {collapsed[lowest]:.3g}, {lowest}); "
    )
    if num_members == 1:
        return found + (
            "the aleatoric samples that stand in for members nearly agree, so total and aleatoric maps say the same; "
            "several trained folds (-f 0 1 2 3 4) have an epistemic uncertainty"
        )
    return found + (
        "the members nearly agree, so total and aleatoric maps say the same; an ensemble of independently trained "
        "folds has more epistemic uncertainty; --rescale_epistemic corrects the scale"
    )


def degeneration_warning(cases: Mapping[str, Mapping[str, Any]]) -> str | None:
    """What to tell the user of the cases of a record whose whole samples say nothing, if there are any."""
    found = {name: entry["degenerate_samples"] for name, entry in cases.items() if "degenerate_samples" in entry}
    if not found:
        return None
    name, what = next(iter(found.items()))
    return (
        f"the whole samples say nothing in {len(found)} of {len(cases)} cases: all are empty or fill the image, and "
        f"the segmentation does not ({name}: {what}); the model's distribution has come apart from its mean, as "
        "happens where training was short; train longer, and do not read its samples and maps"
    )


def epistemic_factor(record: Path) -> float:
    """Mean AU / mean EU over the cases of an uncertainty.json: the factor that makes both equally large on average.

    Raises
    ------
    ValueError
        If the record has no cases with both maps, has no epistemic uncertainty at all, or was itself rescaled.
    """
    if not record.is_file():
        raise FileNotFoundError(f"there is no {record}: name the folder of an earlier prediction, or its factor")
    content = read_json(record, PredictionRecord, remedy="name the folder of another prediction, or its factor")
    if content.get("settings", {}).get("epistemic_factor", 1.0) != 1.0:
        raise ValueError(
            f"{record} is of a prediction that was rescaled itself: measure the factor on one that was not"
        )
    pairs = [
        (entry["mean_aleatoric"], entry["mean_epistemic"])
        for entry in content["cases"].values()
        if "mean_aleatoric" in entry and "mean_epistemic" in entry
    ]
    aleatoric, epistemic = (sum(values) for values in zip(*pairs, strict=True)) if pairs else (0.0, 0.0)
    if not (aleatoric > 0 and epistemic > 0):
        raise ValueError(
            f"{record} has {len(pairs)} cases with aleatoric and epistemic maps, and their mean AU is {aleatoric:g}, "
            f"mean EU {epistemic:g} in sum: both must be above 0 to take their ratio"
        )
    return aleatoric / epistemic
