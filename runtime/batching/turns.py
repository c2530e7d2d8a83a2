"""Who computes next: prefills and steps take turns, so that a step waits for one prefill at most.

Prefills come one at a time, because each uses what the machine has. After a prefill a step is next, if one
waits, and after a step a prefill; within a kind, who came first.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from ..cancellation.bell import Bell
from ..cancellation.guard import wait_for

Kind = Literal["prefill", "step"]
OTHER: dict[Kind, Kind] = {"prefill": "step", "step": "prefill"}


class _Turn:
    def __init__(self) -> None:
        self.granted, self.woken = False, Bell()


class Turns:
    """The one place at which something is computed."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._busy = False
        self._waiting: dict[Kind, deque[_Turn]] = {"prefill": deque(), "step": deque()}

    @contextmanager
    def take(self, kind: Kind) -> Iterator[None]:
        """Wait for a turn, and end it with the block.

        Raises:
            RequestCancelled: the request for which this thread runs a stage ended before its turn came.
        """
        turn = None
        with self._lock:
            if self._busy:
                turn = _Turn()
                self._waiting[kind].append(turn)
            self._busy = True
        if turn:
            self._wait(kind, turn)
        try:
            yield
        finally:
            self._pass_on(kind)

    def _wait(self, kind: Kind, turn: _Turn) -> None:
        try:
            wait_for(turn.woken)
        except BaseException:  # also Ctrl-C in this thread: its turn would never end
            with self._lock:
                if turn.granted:
                    self._pass_on(kind)
                else:
                    self._waiting[kind].remove(turn)
            raise

    def _pass_on(self, kind: Kind) -> None:
        with self._lock:
            queue = self._waiting[OTHER[kind]] or self._waiting[kind]
            self._busy = bool(queue)
            if queue:
                turn = queue.popleft()
                turn.granted = True
                turn.woken.ring()
