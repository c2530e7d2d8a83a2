"""Two processes that make files beside this one, hold nothing of it, and end with it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

from fastadasp.evaluation.answers.workers import end_with_parent


@contextmanager
def two_processes() -> Iterator[ProcessPoolExecutor]:
    """When it is left, what they have begun is finished, and nothing more is begun."""
    spawn = get_context("spawn")  # a fork would hold the locks of this process
    pool = ProcessPoolExecutor(2, spawn, end_with_parent)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
