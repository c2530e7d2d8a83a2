"""What a thread waits for, and any other wakes it with, even a signal handler within that very wait."""

from __future__ import annotations

from queue import Empty, SimpleQueue


class Bell:
    """Rung once or more, heard once. An `Event` would not do: who sets one in its own wait waits for ever."""

    def __init__(self) -> None:
        self._rung = SimpleQueue[None]()

    def ring(self) -> None:
        """End the wait, now or when it begins."""
        self._rung.put(None)

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it was rung, in so many seconds; None: wait as long as it takes."""
        try:
            self._rung.get(timeout=seconds)
        except Empty:
            return False
        return True
