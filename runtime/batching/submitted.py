"""A request that was handed over: it is waited for, in a thread or a coroutine, or cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from numbers import Real
from typing import Any

from ...profiles.errors import RequestError
from ...profiles.faults import shown
from ..cancellation.guard import Guard
from ..cancellation.in_thread import ending_with_task
from ..results import GenerationResult


class Submitted:
    """A request that waits for a thread, runs, or has ended. Safe to use from several threads.

    In a coroutine, `await` gives what `result` does; if the task is cancelled, the request ends first.
    """

    def __init__(self, future: Future[GenerationResult], guard: Guard) -> None:
        """Wrap what will be there; `guard` knows all that may end the request."""
        self._future, self._guard = future, guard

    @property
    def done(self) -> bool:
        """Whether `result` returns or raises at once."""
        if self._guard.seconds_left == 0:
            self._expire()
        return self._future.done()

    def then(self, call: Callable[[], None]) -> None:
        """Call once it has ended, in whichever thread ends it; now, if it has."""
        self._future.add_done_callback(lambda _: call())

    def cancel(self) -> None:
        """End the request with `RequestCancelled`, at once if it still waits for a thread. Again: nothing."""
        self._guard.own.cancel()

    def result(self, timeout: float | None = None) -> GenerationResult:
        """The answer, as `SpeechLM.generate` returns it.

        Args:
            timeout: seconds to wait for it, 0 to look; the request goes on when they have passed.

        Raises:
            TimeoutError: it is not there yet.
            RequestError: a timeout that is no number of seconds; and what `SpeechLM.generate` raises.
            RequestCancelled: it was cancelled, or the model closed; DeadlineExceeded: its deadline passed.
            FastAdaSPError: what `SpeechLM.generate` raises.
        """
        if timeout is not None and not _can_be_waited(timeout):
            raise RequestError(f"timeout is {shown(timeout)}: give seconds, at least 0, or None")
        left, more = self._guard.seconds_left, timeout
        if left is not None and (timeout is None or left < timeout):
            if not self._ended_within(left):
                self._expire()
            more = None if timeout is None else timeout - left
        if not self._ended_within(more):
            raise TimeoutError(f"the request has no answer after {timeout:g} s: wait longer, or cancel it")
        return self._answer()

    def __await__(self) -> Generator[Any, None, GenerationResult]:
        """As `result`, without a timeout."""
        return self._awaited().__await__()

    async def _awaited(self) -> GenerationResult:
        loop, left = asyncio.get_running_loop(), self._guard.seconds_left
        timer = loop.call_later(left, self._expire) if left is not None else None
        ended = loop.create_future()
        self._future.add_done_callback(lambda _: loop.call_soon_threadsafe(_end, ended))
        try:
            await ending_with_task(ended, self.cancel)
        finally:
            if timer:
                timer.cancel()
        return self._answer()

    def _ended_within(self, seconds: float | None) -> bool:
        with suppress(TimeoutError, CancelledError):
            self._future.exception(seconds)  # `concurrent.futures.wait` would wait for a cancelled one, too
        return self._future.done()

    def _expire(self) -> None:
        """End a request that still waits for a thread when its deadline has passed; a running one does so."""
        self._guard.expire()
        self._future.cancel()

    def _answer(self) -> GenerationResult:
        if self._future.cancelled():
            error = self._guard.error()
            assert error is not None, "nothing else ends a request that waits"
            raise error
        return self._future.result()


def _can_be_waited(seconds: object) -> bool:
    is_number = isinstance(seconds, Real) and not isinstance(seconds, bool)
    return is_number and 0 <= seconds <= threading.TIMEOUT_MAX  # type: ignore[operator]


def _end(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)
