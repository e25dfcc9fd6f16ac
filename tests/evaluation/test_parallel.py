"""Order, errors and checks of both kinds of workers."""

import functools
import operator
import os

import pytest

from nnunet_stochastic.evaluation import Workers, map_in_processes, map_in_threads


@pytest.mark.parametrize("processes", [1, 2])
def test_processes_keep_the_order_and_pass_errors_on(processes):
    with Workers(processes, show_progress=False) as workers:
        assert list(workers.map(abs, range(-9, 0), description="")) == list(range(9, 0, -1))
        with pytest.raises(ZeroDivisionError):
            list(workers.map(functools.partial(operator.truediv, 1), [1, 0, 1], description=""))
        assert list(workers.map(abs, [], description="")) == []


def test_a_worker_that_dies_is_an_error_that_says_what_to_do():
    with pytest.raises(OSError, match="smaller -np"):
        list(map_in_processes(os._exit, [1, 1], num_processes=2, description="", show_progress=False))


def test_threads_keep_the_order_and_pass_errors_on():
    assert map_in_threads(abs, range(-9, 0), num_threads=4, description="", show_progress=False) == list(
        range(9, 0, -1)
    )
    with pytest.raises(ZeroDivisionError):
        map_in_threads(lambda x: 1 / x, [1, 0], num_threads=2, description="", show_progress=False)


def test_numbers_of_workers():
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        map_in_threads(abs, [1], num_threads=0, description="", show_progress=False)
    with pytest.raises(ValueError, match="processes must be at least 1, got -1"):
        Workers(-1)
