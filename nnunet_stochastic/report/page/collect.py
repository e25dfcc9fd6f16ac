"""Thumbnails and volumes of many cases, read in threads; a case that cannot be read keeps its row and a note."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from nnunet_stochastic.evaluation.parallel import map_in_threads
from nnunet_stochastic.progress import progress_bar
from nnunet_stochastic.report.page.cases import CaseSource, PageCase
from nnunet_stochastic.report.page.thumbnails import make_thumbnail
from nnunet_stochastic.report.page.volumes import CaseVolumes, encode_case

__all__ = ["collect_thumbnails", "collect_volumes"]

Made = TypeVar("Made")


def collect_thumbnails(
    cases: Sequence[PageCase], *, max_thumbnails: int, num_threads: int, show_progress: bool
) -> tuple[list[str | None], list[str | None]]:
    """Thumbnail and note of each case; the first ``max_thumbnails`` cases have one."""

    def make(case: PageCase) -> tuple[str | None, str | None]:
        made, problem = _attempt(make_thumbnail, case)
        return (None, problem) if made is None else made

    made = map_in_threads(
        make, cases[:max_thumbnails], num_threads=num_threads, description="thumbnails", show_progress=show_progress
    )
    # Why a case cannot be read does not depend on whether it was to have a thumbnail.
    made += [(None, case.source if isinstance(case.source, str) else None) for case in cases[max_thumbnails:]]
    return [thumbnail for thumbnail, _ in made], [note for _, note in made]


def collect_volumes(
    cases: Sequence[PageCase], *, viewer_cases: int, max_bytes: int, num_threads: int, show_progress: bool
) -> tuple[dict[int, CaseVolumes], list[str]]:
    """Volumes of the first ``viewer_cases`` cases that fit, under their index, and a line for each that did not.

    Cases that do not fit are passed over for smaller ones behind them. A volume that several cases share counts once.
    """
    chosen: dict[int, CaseVolumes] = {}
    left_out: list[str] = []
    included: set[str] = set()
    size = 0
    wanted = cases[:viewer_cases]
    for index, (volumes, problem) in enumerate(_encode(wanted, num_threads=num_threads, show_progress=show_progress)):
        row = wanted[index].row
        of = ", ".join(row[key] for key in ("set", "model") if row[key])
        name = f"{row['case']} ({of})" if of else row["case"]
        if volumes is None:
            left_out.append(f"{name}: {problem}")
            continue
        added = {layer.nifti for layer in volumes.files} - included
        more = sum(map(len, added))
        if size + more > max_bytes:
            left_out.append(f"{name}: {more / 1e6:.1f} MB more than --max_megabytes leaves room for")
            continue
        chosen[index] = volumes
        included |= added
        size += more
    return chosen, left_out


def _encode(
    cases: Sequence[PageCase], *, num_threads: int, show_progress: bool
) -> Iterator[tuple[CaseVolumes | None, str | None]]:
    # One after the other as they come, so that what does not fit leaves the memory.
    with ThreadPoolExecutor(max_workers=num_threads) as pool:
        encoded = pool.map(lambda case: _attempt(encode_case, case), cases)
        yield from progress_bar(encoded, total=len(cases), description="volumes", show=show_progress)


def _attempt(make: Callable[[CaseSource], Made], case: PageCase) -> tuple[Made | None, str | None]:
    if isinstance(case.source, str):
        return None, case.source
    try:
        return make(case.source), None
    except (ValueError, OSError, RuntimeError) as error:  # RuntimeError: what nnU-Net's readers raise for missing files
        return None, str(error)
