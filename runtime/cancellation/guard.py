"""What may end one request early: it is looked at between the stages, and stops a run inside of one.

Sessions find the guard of their request in a context variable, which is set while a stage runs. So the one
method that every backend has, `Session.run(inputs)`, needs no argument that most sessions could only ignore,
and a run for several requests at once, which none of them may stop, is simply one outside of their stages.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from numbers import Real

from ...profiles.errors import DeadlineExceeded, RequestCancelled, RequestError
from ...profiles.faults import shown
from .bell import Bell
from .cancellation import Cancellation, Stop

BRIEF = "step"  # the stage whose runs are too short to be worth a timer each
CLOCK = time.perf_counter

_guard: ContextVar[Guard | None] = ContextVar("guard", default=None)
Entered = Token["Guard | None"]


def current_guard() -> Guard | None:
    """That of the request for which this thread runs a stage."""
    return _guard.get()


def wait_for(bell: Bell) -> None:
    """Wait until it is rung, or the request of this thread's stage is to end; RequestCancelled."""
    if (guard := current_guard()) is None:
        bell.wait()
    else:
        guard.wait(bell)


@contextmanager
def unguarded() -> Iterator[None]:
    """Run for several requests, none of which may end what the others need."""
    entered = _guard.set(None)
    try:
        yield
    finally:
        _guard.reset(entered)


def new_guard(cancellation: Cancellation | None, deadline: float | None) -> Guard:
    """The guard of a request that begins now.

    Args:
        cancellation: the caller's, beside which the guard has its own.
        deadline: seconds from now.

    Raises:
        RequestError: another object than a `Cancellation`, or no number of seconds.
    """
    if cancellation is not None and not isinstance(cancellation, Cancellation):
        raise RequestError(f"cancellation is {shown(cancellation)}: give a Cancellation")
    seconds = None if deadline is None else _seconds(deadline)
    own = Cancellation()
    return Guard((own,) if cancellation is None else (cancellation, own), seconds)


def guard_of(cancellation: Cancellation | None, deadline: float | None) -> Guard | None:
    """As `new_guard`, for a request that only the caller may end; None if nothing is given that would."""
    return None if cancellation is None and deadline is None else new_guard(cancellation, deadline)


class Guard:
    """What may end one request: its cancellations and its deadline. Only one thread at a time runs it."""

    def __init__(self, sources: tuple[Cancellation, ...], deadline: float | None) -> None:
        """Begin the time of a deadline, in seconds; the last of the sources is the request's own."""
        self.sources, self._deadline, self._begin = sources, deadline, CLOCK()
        self.own = sources[-1]
        self._expired = False
        self._stage, self._where = "", "before its first stage"

    def of_part(self) -> Guard:
        """That of a part of the request, which another thread may run: it ends when the request does."""
        part = Guard(self.sources, self._deadline)
        part._begin = self._begin
        return part

    def enter(self, stage: str) -> Entered:
        """Begin a stage, which this thread runs: until `leave`, sessions find the guard.

        Raises:
            RequestCancelled: the request is to end.
        """
        self.check()
        self._stage, self._where = stage, f"in stage {stage}"
        return _guard.set(self)

    def leave(self, entered: Entered) -> None:
        """End the stage."""
        _guard.reset(entered)
        self._where = f"after stage {self._stage}"

    def check(self) -> None:
        """Raise the error of a request that is to end."""
        if error := self.error():
            raise error

    def error(self) -> RequestCancelled | None:
        """Why the request is to end, if it is: `RequestCancelled`, or its kind `DeadlineExceeded`."""
        seconds = CLOCK() - self._begin
        if any(source.cancelled for source in self.sources):
            return RequestCancelled(
                f"the request was cancelled {self._where}, {seconds:.3f} s after it began; "
                "make it again if it is still wanted"
            )
        if self._expired or (self._deadline is not None and seconds >= self._deadline):
            return DeadlineExceeded(
                f"the deadline of {self._deadline:g} s passed {self._where}, {seconds:.3f} s after the "
                "request began; give it more time, shorter audio or fewer beams and tokens"
            )
        return None

    @property
    def seconds_left(self) -> float | None:
        """Until the deadline, 0 once it has passed; None without one."""
        if self._deadline is None:
            return None
        return max(0.0, self._begin + self._deadline - CLOCK())

    def expire(self) -> None:
        """Say that the deadline has passed, as a timer does, whose clock may be ahead of ours."""
        self._expired = True

    def wait(self, bell: Bell) -> None:
        """Wait until it is rung, or the request is to end, also within a stage that is brief.

        Raises:
            RequestCancelled: the request is to end.
        """
        with self._told(bell.ring):
            if not bell.wait(self.seconds_left):
                self.expire()
            self.check()

    @contextmanager
    def stopping(self, stop: Stop) -> Iterator[None]:
        """Call `stop` from another thread as soon as the request is to end, for a run that takes long.

        The deadline does so by a timer, which is gone when the run ends; a decode step is left to its end.

        Raises:
            RequestCancelled: the request is to end before the run begins.
        """
        timer = self._timer(stop)
        try:
            with self._told(stop):
                yield
        finally:
            if timer:
                timer.cancel()
                timer.join()

    @contextmanager
    def _told(self, stop: Stop) -> Iterator[None]:
        """Call `stop` when the request is cancelled. RequestCancelled: it is to end already."""
        try:
            for source in self.sources:
                source.add(stop)
            self.check()
            yield
        finally:
            for source in self.sources:
                source.discard(stop)

    def _timer(self, stop: Stop) -> threading.Timer | None:
        left = self.seconds_left
        if left is None or self._stage == BRIEF:
            return None

        def expire() -> None:
            self.expire()
            stop()

        timer = threading.Timer(left, expire)
        timer.daemon = True
        timer.start()
        return timer


def _seconds(value: object) -> float:
    """A time that a thread can wait for."""
    try:
        seconds = float(value) if isinstance(value, Real) and not isinstance(value, bool) else 0.0
    except OverflowError:  # an integer beyond all floats
        seconds = math.inf
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise RequestError(f"deadline is {shown(value)}: give seconds from the start, above 0")
    return seconds
