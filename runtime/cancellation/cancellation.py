"""What requests are cancelled with, from any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

Stop = Callable[[], None]
"""Asks a run that is under way to end; it may be called at any time, from any thread, and more than once."""


class Cancellation:
    """A switch that requests look at, and that reaches into their runs. It cannot be turned back.

    It may be given to several requests, and cancels all of them; `cancel` may be called in a signal handler.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may interrupt the very thread that holds it
        self._stops: set[Stop] = set()
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled; a request that was may take some milliseconds more to end."""
        return self._cancelled

    def cancel(self) -> None:
        """Cancel requests under way, and those to come; waits for none of them. Again it does nothing."""
        with self._lock:
            self._cancelled = True
            stops = tuple(self._stops)
        for stop in stops:
            stop()

    def add(self, stop: Stop) -> None:
        """Call `stop` when it is cancelled. Look at `cancelled` after this, not before."""
        with self._lock:
            self._stops.add(stop)

    def discard(self, stop: Stop) -> None:
        """Forget `stop`; a call from another thread may still be under way."""
        with self._lock:
            self._stops.discard(stop)
