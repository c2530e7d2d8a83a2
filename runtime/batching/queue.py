"""The queue of submitted requests: so many run at once, each in a thread, and the others wait for one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from ...profiles.errors import QueueFullError
from ..cancellation.guard import Guard
from ..results import GenerationResult
from .submitted import Submitted


class RequestQueue:
    """First come, first served. Threads are started when they are first needed."""

    def __init__(self, max_batch: int, max_queue: int | None, check_open: Callable[[], None]) -> None:
        """So many run at once, and at most `max_queue` wait; None: any number.

        `check_open` refuses requests of a closed model; it does so before `close` is called.
        """
        self._most, self._max_queue, self._check_open = max_batch, max_queue, check_open
        self._threads = ThreadPoolExecutor(max_batch, "fastadasp-request")
        self._lock = threading.RLock()  # what ends a request may interrupt the very thread that holds it
        self._running_or_waiting: dict[Guard, Future[GenerationResult]] = {}

    def submit(self, call: Callable[[], GenerationResult], guard: Guard) -> Submitted:
        """Run a call in a thread, as soon as there is one.

        Args:
            call: the request.
            guard: what may end it, also while it waits: its deadline counts from before.

        Raises:
            RequestError: the model is closed.
            QueueFullError: enough of them are waiting.
        """

        def run() -> GenerationResult:
            try:
                return call()
            finally:  # before the result is there: who has it may submit the next one
                self._forget(guard)

        with self._lock:
            self._check_open()  # here: what is submitted under the lock before it closes is cancelled
            self._check_room()
            future = self._running_or_waiting[guard] = self._threads.submit(run)

        def stop() -> None:
            future.cancel()  # which does nothing to a call that runs: it looks at its guard

        def end(_: object) -> None:
            self._forget(guard)  # which did not run if it was cancelled while it waited
            for source in guard.sources:
                source.discard(stop)

        for source in guard.sources:
            source.add(stop)
        future.add_done_callback(end)
        if any(source.cancelled for source in guard.sources):
            stop()
        return Submitted(future, guard)

    def close(self) -> None:
        """Cancel all requests, and wait until their threads have ended."""
        with self._lock:
            guards = tuple(self._running_or_waiting)
        for guard in guards:
            guard.own.cancel()
        self._threads.shutdown(wait=True)

    def _forget(self, guard: Guard) -> None:
        with self._lock:
            self._running_or_waiting.pop(guard, None)

    def _check_room(self) -> None:
        if self._max_queue is None or len(self._running_or_waiting) - self._most < self._max_queue:
            return
        # who waits for one that is cancelled learns it before it is forgotten
        there = tuple(self._running_or_waiting.values())
        if sum(not future.cancelled() for future in there) - self._most >= self._max_queue:
            raise QueueFullError(
                f"{self._most} requests run and {self._max_queue} wait, as max_queue allows: "
                "submit again when some have ended, or raise max_queue or max_batch"
            )
