"""Work beside the thread that runs the network, with a bounded amount of it waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["results_ahead", "thread_executor"]

Item = TypeVar("Item")


class _InlineExecutor(Executor):
    """Runs each call where it is submitted."""

    def submit(self, function: Callable, /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:  # raised again where the result is asked for
            future.set_exception(error)
        return future


def thread_executor(num_threads: int) -> Executor:
    """A pool of threads; with 0 of them each call runs where it is submitted."""
    return ThreadPoolExecutor(num_threads) if num_threads else _InlineExecutor()


def results_ahead(
    executor: Executor, function: Callable[[Item], Any], items: Sequence[Item], count: int
) -> Iterator[tuple[Item, Future]]:
    """Results of ``function`` in the order of the items, at most ``count`` of them computed ahead."""
    remaining: deque[Item] = deque(items)
    running: deque[tuple[Item, Future]] = deque()
    while remaining or running:
        while remaining and len(running) < count:
            running.append((remaining[0], executor.submit(function, remaining.popleft())))
        yield running.popleft()
