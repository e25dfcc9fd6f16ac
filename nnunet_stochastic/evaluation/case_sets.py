"""Sets of cases: those in distribution (ID), and one set per shift, whose predictions lie in a folder of their own.

The sets of an evaluation belong to one model, so they have the same maps and the same number of samples.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_stochastic.evaluation.cases import CaseFiles, check_different_folders, find_cases
from nnunet_stochastic.evaluation.maps import FOLDERS, MEASURES, Measure
from nnunet_stochastic.io.names import shown

__all__ = [
    "ID",
    "OOD",
    "CaseSet",
    "SetFolders",
    "common_measures",
    "describe_folders",
    "find_case_sets",
    "shift_folders",
]

# The splits of a summary: in distribution, and the mean over the shifts.
ID, OOD = "ID", "OOD"
# Names with a meaning of their own in the summary.
_RESERVED = (ID, OOD, "shifts")


@dataclass(frozen=True)
class SetFolders:
    """Folders of a set: predictions, references and raters; None where there are none."""

    predictions: Path
    references: Path | None = None
    raters: Path | None = None


@dataclass(frozen=True)
class CaseSet:
    """A named set of cases, in order of name."""

    name: str
    cases: tuple[CaseFiles, ...]


def shift_folders(
    predictions: Sequence[str], references: Sequence[str] = (), raters: Sequence[str] = ()
) -> dict[str, SetFolders]:
    """Folders of the shifts from texts NAME=FOLDER, as they are given on the command line.

    Raises
    ------
    ValueError
        A text without name, a name twice or that cannot name a folder, annotations of an unknown shift, raters without
        reference.
    """
    found = {
        option: _named(texts, option)
        for option, texts in (("-ood", predictions), ("-ood_gt", references), ("-ood_gt_raters", raters))
    }
    for option, needed in (("-ood_gt", "-ood"), ("-ood_gt_raters", "-ood_gt")):
        if unknown := sorted(found[option].keys() - found[needed].keys()):
            raise ValueError(f"{option} names {', '.join(unknown)}, which {needed} does not: give {needed} NAME=FOLDER")
    return {
        name: SetFolders(folder, found["-ood_gt"].get(name), found["-ood_gt_raters"].get(name))
        for name, folder in found["-ood"].items()
    }


def find_case_sets(
    folders: Mapping[str, SetFolders],
    *,
    file_ending: str,
    num_raters: int | None = None,
    allow_missing_predictions: bool = False,
) -> tuple[list[CaseSet], list[str]]:
    """Find the cases of all sets.

    Parameters
    ----------
    folders
        Folders by name of the set, ID first.
    file_ending, num_raters, allow_missing_predictions
        Those of ``find_cases``.

    Returns
    -------
    tuple[list[CaseSet], list[str]]
        The sets, and what is missing, one line per finding.
    """
    sets, problems = [], []
    check_different_folders({f"predictions of {name}": places.predictions for name, places in folders.items()})
    for name, places in folders.items():
        cases, found = find_cases(
            places.predictions,
            places.references,
            places.raters,
            file_ending=file_ending,
            num_raters=num_raters,
            allow_missing_predictions=allow_missing_predictions,
            probabilities=places.references is not None,
        )
        sets.append(CaseSet(name, tuple(cases)))
        problems += found if name == ID else [f"{name}: {problem}" for problem in found]
    return sets, problems + _different(sets, folders)


def describe_folders(
    folders: Mapping[str, SetFolders], *, validation: Path | None, groups: Path | None
) -> dict[str, Any]:
    """For summary.json: the folders of ID, under ``shifts`` those of the others, and the table of patients."""

    def of_set(places: SetFolders) -> dict[str, str | None]:
        named = {"prediction": places.predictions, "reference": places.references, "raters": places.raters}
        return {name: None if folder is None else str(folder.resolve()) for name, folder in named.items()}

    return {
        **of_set(folders[ID]),
        "validation": None if validation is None else str(validation.resolve()),
        "groups": None if groups is None else str(groups.resolve()),
        "shifts": {name: of_set(places) for name, places in folders.items() if name != ID},
    }


def common_measures(sets: Iterable[CaseSet]) -> tuple[Measure, ...]:
    """Measures whose maps all cases have."""
    cases = [case for case_set in sets for case in case_set.cases]
    return tuple(measure for measure in MEASURES if cases and all(measure in case.maps for case in cases))


def _different(sets: Sequence[CaseSet], folders: Mapping[str, SetFolders]) -> list[str]:
    """What the sets must have in common and have not."""
    problems = []
    found = [case_set for case_set in sets if case_set.cases]
    for first, other in zip(found[:1] * len(found), found[1:], strict=False):
        mine, theirs = set(common_measures([first])), set(common_measures([other]))
        for measure in sorted(mine ^ theirs):
            lacking, having = (other, first) if measure in mine else (first, other)
            problems.append(
                f"{lacking.name}: {folders[lacking.name].predictions} has no {FOLDERS[measure]} maps, those of "
                f"{having.name} have them; predict both sets with the same model and options"
            )
        counts = [len(case_set.cases[0].samples) for case_set in (first, other)]
        if counts[1] not in (0, counts[0]):  # without samples, what needs them is left out for this set
            problems.append(
                f"{other.name}: {counts[1]} samples per case, {first.name} has {counts[0]}; predict both sets with the "
                "same --save_samples"
            )
    return problems


def _named(texts: Sequence[str], option: str) -> dict[str, Path]:
    folders: dict[str, Path] = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        if not (equals and folder and re.fullmatch(r"\w[\w.-]*", name)):
            raise ValueError(
                f"{option} takes NAME=FOLDER, the name of letters, digits, '-', '_' and '.', such as blur=out/blur; "
                f"got {shown(text)}"
            )
        if name in _RESERVED:
            raise ValueError(f"{option} {text}: the name {name} has another meaning here; choose another one")
        if name in folders:
            raise ValueError(f"{option} names {name} twice")
        folders[name] = Path(folder)
    return folders
