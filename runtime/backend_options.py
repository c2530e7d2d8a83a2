"""What the options of every backend have in common."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..profiles.errors import RequestError
from ..profiles.faults import count_fault

MOST_THREADS = max(16, 4 * (os.cpu_count() or 1))  # more of them than this only wait for each other


@dataclass(frozen=True)
class BackendOptions:
    """The options of one backend: the fields of a subclass, each with a default.

    A field whose option on the command line has another name says so in its metadata, as `flag`.
    """

    def recorded(self) -> dict[str, Any]:
        """Those that an answer depends on, as result files keep them."""
        return {}


@dataclass(frozen=True)
class CpuOptions(BackendOptions):
    """The options of a backend that computes on the CPU. Raises RequestError for a number out of range."""

    threads: int = 0  # of one run; 0 takes one per core

    def __post_init__(self) -> None:
        if faults := list(self.faults()):
            raise RequestError("; ".join(faults))

    def faults(self) -> Iterator[str]:
        """What is wrong with the values."""
        yield from threads_fault(self.threads)


def threads_fault(threads: object) -> Iterator[str]:
    """What is wrong with a number of threads on this machine."""
    return count_fault("threads", threads, 0, MOST_THREADS)
