"""Evaluate many cases: check all of them, then score them in threads.

Reading, decompression and NumPy release the interpreter lock, so threads do what worker processes would, without the
five seconds that each of those needs to import nnU-Net. Results are collected in the order of the cases and do not
depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

from nnunet_stochastic.evaluation.cases import CaseFiles, ImageReader, load_case
from nnunet_stochastic.evaluation.labels import EvaluatedLabels
from nnunet_stochastic.evaluation.scores import AnnotationScores, score_case
from nnunet_stochastic.evaluation.summary import Evaluation, summarise
from nnunet_stochastic.nifti import check_not_truncated

__all__ = ["check_cases", "evaluate_cases", "map_in_threads"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def check_cases(
    cases: Sequence[CaseFiles],
    labels: EvaluatedLabels,
    reader: ImageReader,
    *,
    problems: Sequence[str] = (),
    num_threads: int = 1,
    show_progress: bool = True,
) -> None:
    """Read every case and raise one error that lists all that is wrong.

    Parameters
    ----------
    cases
        The cases.
    labels
        The classes.
    reader
        nnU-Net's reader of the dataset.
    problems
        Findings of ``find_cases``, put in front of the list.
    num_threads
        Cases read at a time.
    show_progress
        Draw a progress bar.
    """

    def check(files: CaseFiles) -> str | None:
        try:
            for path in (files.prediction, files.reference, *files.raters):
                check_not_truncated(path)
            load_case(files, labels, reader)
        except (ValueError, OSError, RuntimeError) as error:  # RuntimeError: what the readers raise for broken files
            return f"{files.name}: {error}"
        return None

    found = map_in_threads(check, cases, num_threads=num_threads, description="checking", show_progress=show_progress)
    listed = [*problems, *(problem for problem in found if problem is not None)]
    if listed:
        lines = "\n".join(f"  {problem}" for problem in listed)
        raise ValueError(f"Nothing was evaluated, because of these problems:\n{lines}")


def evaluate_cases(
    cases: Sequence[CaseFiles],
    labels: EvaluatedLabels,
    reader: ImageReader,
    *,
    num_bins: int = 15,
    num_threads: int = 1,
    show_progress: bool = True,
) -> Evaluation:
    """Score cases that passed ``check_cases``.

    Memory holds num_threads cases at a time; of each only its table rows and reliability bins are kept.
    """
    if not cases:
        raise ValueError("There is no case to evaluate.")

    def score(files: CaseFiles) -> dict[str, AnnotationScores]:
        return score_case(load_case(files, labels, reader), labels, num_bins=num_bins)

    scores = map_in_threads(
        score, cases, num_threads=num_threads, description="evaluating", show_progress=show_progress
    )
    return summarise(scores, labels, num_bins=num_bins)


def map_in_threads(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    num_threads: int,
    description: str,
    show_progress: bool,
) -> list[Result]:
    """``[function(item) for item in items]`` with threads and a progress bar, in the same order."""
    if num_threads < 1:
        raise ValueError(f"The number of threads must be at least 1, got {num_threads}.")
    items = list(items)
    with ThreadPoolExecutor(max_workers=num_threads) as pool:
        results = pool.map(function, items)
        return list(tqdm(results, total=len(items), desc=description, disable=not (show_progress and items)))
