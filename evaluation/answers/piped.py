"""A process of this program at the other end of a pipe, which may die at any time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from .spawning import without_ctrl_c

BLAS_THREADS = "OPENBLAS_NUM_THREADS"
"""The matrix products of NumPy are small here: threads of theirs would wait for each other, and busily."""
PATIENCE = 5.0  # seconds for a process that was told to end
SPAWNED = get_context("spawn")  # the threads of a loaded ONNX Runtime do not survive a fork


class PipedProcess:
    """A spawned process and our end of its pipe, which ends when the process does."""

    def __init__(self, target: Callable[..., None], *given: Any) -> None:
        """Start it: `target` gets the other end of the pipe, and what else is given."""
        self.pipe, theirs = SPAWNED.Pipe()
        self._process = SPAWNED.Process(target=target, args=(theirs, *given), daemon=True)
        with _environment(BLAS_THREADS, "1"), without_ctrl_c():
            self._process.start()
        theirs.close()  # so that the pipe ends with the process

    @property
    def pid(self) -> int | None:
        """Its number."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it has ended, negative for a signal; None while it runs."""
        return self._process.exitcode

    def wait(self) -> None:
        """Wait until it has ended by itself, but not for ever."""
        self._process.join(PATIENCE)

    def kill(self) -> None:
        """End it now; our end of the pipe stays open."""
        self._process.kill()
        self._process.join()

    def end(self) -> None:
        """End it now."""
        self.kill()
        self.pipe.close()


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """A variable that processes started within have, unless it is set already."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
