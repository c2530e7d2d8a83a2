"""A request in the pool, as whoever waits for its answer holds it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import BinaryIO

from ...profiles.errors import DeadlineExceeded
from .messages import Asked, Began, Ended, Event, Failed

CLOCK = time.monotonic
# what a client can do about a deadline
WAITED = "send it when there is less to do"
WORKED_ON = "send shorter audio, ask for fewer beams or tokens, or give the server a longer --deadline"


class Ticket:
    """What becomes of a request is read from it, as it comes. All of it is of one event loop."""

    def __init__(self, number: int, asked: Asked, audio: bytes | BinaryIO, deadline: float) -> None:
        """Begin the time of the deadline, in seconds. A file is closed once a worker has it, or none will."""
        self.number, self.asked, self.deadline = number, asked, deadline
        self.until = CLOCK() + deadline
        self.audio: bytes | BinaryIO | None = audio
        self.begin, self.is_wanted, self.has_text = CLOCK(), True, False
        self.began: Began | None = None
        self.timer: asyncio.TimerHandle | None = None
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self.has_ended = False

    def tell(self, event: Event) -> None:
        """Something has become of it; what comes after the end is of no interest."""
        if isinstance(event, Failed) and isinstance(event.error, DeadlineExceeded):
            self.expire("while it was answered", WORKED_ON)  # its worker knows but how much time was left
        else:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        if not self.has_ended:
            self.has_ended = isinstance(event, Ended | Failed)
            if isinstance(event, Began):
                self.began = event
            self._events.put_nowait(event)

    def expire(self, where: str, remedy: str) -> bool:
        """Its deadline has passed; whether that is news, which it is not for a request that has ended."""
        if self.has_ended:
            return False
        late = f"the deadline of {self.deadline:g} s passed {where}; {remedy}"
        self._tell(Failed(self.number, DeadlineExceeded(late)))
        return True

    def take_audio(self) -> bytes | BinaryIO:
        """The audio, which it keeps no longer."""
        audio, self.audio = self.audio, None
        assert audio is not None, "it is taken once"
        return audio

    def close(self) -> None:
        """Let go of audio that no worker has got."""
        if self.timer:
            self.timer.cancel()
        if self.audio is not None and not isinstance(self.audio, bytes):
            self.audio.close()
        self.audio = None

    async def events(self) -> AsyncIterator[Event]:
        """What becomes of it, up to its `Ended`.

        Raises:
            FastAdaSPError: it has failed.
        """
        while True:
            event = await self._events.get()
            if isinstance(event, Failed):
                raise event.error
            yield event
            if isinstance(event, Ended):
                return
