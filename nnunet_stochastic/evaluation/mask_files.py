"""Where the inner and outer masks of decisions are, relative to their folder.

inner/CASE, outer/CASE      of a data set with one structure
inner/N_NAME/CASE, …        of one with several: a folder for each, N from 1, as masks of several may overlap
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nnunet_stochastic.evaluation.cases import CaseFiles
from nnunet_stochastic.labels import EvaluatedLabels

__all__ = ["MASKS", "mask_files", "mask_folder"]

MASKS = ("inner", "outer")


def mask_folder(which: str, structure: str, labels: EvaluatedLabels) -> Path:
    """Where the masks of a structure are; ``which``: one of ``MASKS``."""
    if len(labels.names) == 1:
        return Path(which)
    number = labels.names.index(structure) + 1
    return Path(which) / f"{number}_{re.sub(r'[^A-Za-z0-9_.+-]+', '_', structure)[:100]}"


def mask_files(case: CaseFiles, structures: Sequence[str], labels: EvaluatedLabels) -> list[Path]:
    """Masks of a case that is made of a prediction, of all these structures."""
    return [mask_folder(which, structure, labels) / case.prediction.name for structure in structures for which in MASKS]
