"""The replicas of the model, as a door sees them: a request whose replica dies is sent to another one."""

from __future__ import annotations

import asyncio
import logging
from itertools import count
from typing import Any, BinaryIO

from ...profiles.errors import DeadlineExceeded, EngineError, FastAdaSPError, QueueFullError, WorkerError
from ..metrics import Metrics
from ..pool.messages import Asked, Ended, Event, Failed, Piece, SegmentFound
from ..pool.ticket import CLOCK, WAITED, Ticket
from .cluster import lost

LOGGER = logging.getLogger(__name__)
GRACE = 5.0  # seconds behind its deadline in which a replica may end a request by itself


class RayPool:
    """A `RequestPool` of replicas, which Ray Serve starts, replaces, and gives requests to."""

    def __init__(self, handle: Any, most: int, tries: int, deadline: float, metrics: Metrics) -> None:
        """With the handle of the deployment, for at most so many requests at once, waiting ones included."""
        self._handle, self._most, self._tries = handle.options(stream=True), most, tries
        self._deadline, self._metrics, self._numbers = deadline, metrics, count()
        self._tasks: dict[int, asyncio.Task[None]] = {}

    @property
    def is_ready(self) -> bool:
        """Always: a request waits until there is a replica, and Serve's own health says whether there is."""
        return True

    def submit(self, asked: Asked, audio: bytes | BinaryIO) -> Ticket:
        """As `RequestPool` says."""
        if len(self._tasks) >= self._most:
            if not isinstance(audio, bytes):
                audio.close()
            raise QueueFullError(
                f"{self._most} requests run or wait, which are as many as may: send it again when some have "
                "ended"
            )
        ticket = Ticket(next(self._numbers), asked, audio, self._deadline)
        self._tasks[ticket.number] = task = asyncio.create_task(self._answer(ticket))
        task.add_done_callback(lambda ended: self._ended(ticket, ended))
        self._metrics.running.labels(asked.profile).inc()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """As `RequestPool` says; a replica that still has it ends it soon."""
        if ticket.is_wanted:
            ticket.is_wanted = False
            if not ticket.has_ended:
                self._metrics.cancelled.labels(ticket.asked.profile).inc()
            if task := self._tasks.get(ticket.number):
                task.cancel()

    def _ended(self, ticket: Ticket, task: asyncio.Task[None]) -> None:
        """Whatever has ended it: somebody may still wait for an answer."""
        del self._tasks[ticket.number]
        error = None if task.cancelled() else task.exception()
        if ticket.is_wanted and not ticket.has_ended:
            LOGGER.error("request %d has ended without an answer", ticket.number, exc_info=error)
            self._fail(ticket, EngineError("the program has failed; its log says where"))
        ticket.close()
        self._metrics.running.labels(ticket.asked.profile).dec()

    async def _answer(self, ticket: Ticket) -> None:
        """Send a request until a replica has answered it."""
        audio, told = await asyncio.to_thread(_content, ticket.take_audio()), list[Event]()
        try:
            async with asyncio.timeout(ticket.until - CLOCK() + GRACE):
                for _ in range(self._tries):
                    if await self._told_all(ticket, audio, told):
                        return
            self._fail(ticket, _died(self._tries))
        except TimeoutError:
            if ticket.expire("and no replica answers", WAITED):
                self._metrics.failed.labels(DeadlineExceeded.__name__).inc()
        except FastAdaSPError as error:
            self._fail(ticket, error)

    async def _told_all(self, ticket: Ticket, audio: bytes, told: list[Event]) -> bool:
        """Send it once and tell what is new: answers do not depend on who gives them. False: it is lost.

        Raises:
            WorkerError: another replica began the answer with other words.
        """
        left = ticket.until - CLOCK()
        answer = self._handle.answer.remote(ticket.number, ticket.asked, audio, left)
        again = iter(tuple(told))
        try:
            async for event in answer:
                if (before := next(again, None)) is None:
                    told.append(event)
                    self._tell(ticket, event)
                elif _said(event) != _said(before):
                    raise _differs()
        except lost():
            self._metrics.retries.inc()
            return False
        finally:
            answer.cancel()  # nothing, where it has ended
        return True

    def _tell(self, ticket: Ticket, event: Event) -> None:
        metrics, profile = self._metrics, ticket.asked.profile
        match event:
            case Piece() if not ticket.has_text:
                ticket.has_text = True
                metrics.first_text_seconds.labels(profile).observe(CLOCK() - ticket.begin)
            case Ended(_, answer):
                metrics.audio_seconds.labels(answer.profile).inc(answer.audio_seconds)
                metrics.output_tokens.labels(answer.profile).inc(answer.output_tokens)
            case Failed(_, error):
                metrics.failed.labels(type(error).__name__).inc()
        ticket.tell(event)

    def _fail(self, ticket: Ticket, error: FastAdaSPError) -> None:
        self._tell(ticket, Failed(ticket.number, error))


def _content(audio: bytes | BinaryIO) -> bytes:
    if isinstance(audio, bytes):
        return audio
    with audio:
        audio.seek(0)
        return audio.read()


def _said(event: Event) -> Any:
    """What a client has read of an event; scores may differ in their last bits."""
    match event:
        case Piece(_, text):
            return text
        case SegmentFound(_, found):
            return found.start, found.end, found.text
        case _:
            return type(event)


def _died(tries: int) -> WorkerError:
    return WorkerError(
        f"{tries} replicas that had this request have died, most likely for lack of memory: give shorter "
        "audio or fewer beams"
    )


def _differs() -> WorkerError:
    return WorkerError(
        "the replica that had this request has died, and another one found other words, so the text that was "
        "sent cannot be gone on with: send the request again"
    )
