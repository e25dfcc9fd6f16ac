"""Work on many cases at a time, with a progress bar; results come in the order of the cases.

Processes for computing: they share no interpreter lock, and import neither torch nor nnU-Net beyond its reader, so
one starts in about a second. Threads for reading and drawing.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Generic, TypeVar

from threadpoolctl import threadpool_limits

from nnunet_stochastic.progress import progress_bar

__all__ = ["Workers", "map_in_processes", "map_in_threads"]

Item = TypeVar("Item")
Output = TypeVar("Output")


class Workers:
    """Processes that compute, to be used in a ``with`` statement; they start when they are needed first.

    Parameters
    ----------
    num_processes
        Number of items at a time; with 1 everything happens in this process.
    show_progress
        Whether to draw progress bars.
    """

    def __init__(self, num_processes: int = 1, *, show_progress: bool = True) -> None:
        _check_count(num_processes, "processes")
        self._num_processes, self._show_progress = num_processes, show_progress
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def map(self, function: Callable[[Item], Output], items: Sequence[Item], *, description: str) -> Iterator[Output]:
        """Yield ``function(item)`` of each item, in order.

        Parameters
        ----------
        function
            Picklable function; errors that it raises are raised here.
        items
            Picklable arguments.
        description
            Text of the progress bar.
        """
        function = _OneThread(function)

        def draw(results: Iterable[Output]) -> Iterator[Output]:
            yield from progress_bar(results, total=len(items), description=description, show=self._show_progress)

        if self._num_processes == 1 or len(items) < 2:
            yield from draw(map(function, items))
            return
        if self._pool is None:
            # "spawn" everywhere: a fork would copy the locks that other threads of this process hold.
            self._pool = ProcessPoolExecutor(self._num_processes, mp_context=multiprocessing.get_context("spawn"))
        try:
            yield from draw(self._pool.map(function, items))
        except BrokenProcessPool as error:
            raise OSError(
                "a worker process was ended from outside, most likely because memory ran out; use a smaller -np"
            ) from error


def map_in_processes(
    function: Callable[[Item], Output],
    items: Sequence[Item],
    *,
    num_processes: int,
    description: str,
    show_progress: bool,
) -> Iterator[Output]:
    """Yield ``function(item)`` of each item, in order, from ``Workers`` of this call's own."""
    with Workers(num_processes, show_progress=show_progress) as workers:
        yield from workers.map(function, items, description=description)


def map_in_threads(
    function: Callable[[Item], Output],
    items: Iterable[Item],
    *,
    num_threads: int,
    description: str,
    show_progress: bool,
) -> list[Output]:
    """``[function(item) for item in items]`` with threads and a progress bar, in the same order."""
    _check_count(num_threads, "threads")
    items = list(items)
    with ThreadPoolExecutor(max_workers=num_threads) as pool:
        results = pool.map(function, items)
        return list(progress_bar(results, total=len(items), description=description, show=show_progress))


def _check_count(number: int, what: str) -> None:
    if number < 1:
        raise ValueError(f"the number of {what} must be at least 1, got {number}")


@dataclass(frozen=True)
class _OneThread(Generic[Item, Output]):
    """Calls a function with the linear algebra on one thread.

    Several would compete with other workers for the cores, and their number would change the rounding of sums.
    """

    function: Callable[[Item], Output]

    def __call__(self, item: Item) -> Output:
        with threadpool_limits(limits=1):
            return self.function(item)
