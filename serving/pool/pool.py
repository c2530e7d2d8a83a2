"""The workers and the queue before them: first come, first served, so many at once, and no more may wait."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from itertools import count
from typing import BinaryIO

from ...profiles.errors import (
    AudioError,
    DeadlineExceeded,
    FastAdaSPError,
    QueueFullError,
    RequestCancelled,
    RequestError,
    WorkerError,
    WorkerHungError,
)
from ..metrics import Metrics
from .link import Link
from .messages import Alive, Answer, Asked, Ended, Facts, Failed, FromWorker, Piece, Ready, Unloadable
from .ticket import CLOCK, WAITED, WORKED_ON, Ticket
from .worker import Plan

LOGGER = logging.getLogger(__name__)
OF_CLIENTS = (AudioError, RequestError, RequestCancelled, WorkerError)
"""Faults that are no news for the log: of requests, or told there already."""
GRACE = 5.0  # seconds behind its deadline in which a worker may end a request by itself
LONGEST_PAUSE = 30.0  # seconds before another worker is started where the last ones died while they loaded
MOST_DOUBLINGS = 6  # of that pause, which is the longest one by then


class Pool:
    """Answers requests in processes; one that dies or hangs is replaced. All of it is of one event loop."""

    def __init__(
        self, plan: Plan, num_workers: int, max_queue: int, deadline: float, metrics: Metrics
    ) -> None:
        self._plan, self._num_workers, self._max_queue = plan, num_workers, max_queue
        self._deadline, self._metrics = deadline, metrics
        self._links: list[Link] = []
        self._waiting: deque[Ticket] = deque()
        self._numbers, self._died_loading, self._closed = count(), 0, False
        self._load_seconds = 0.0  # that a worker took to be ready, at most
        self.facts: Facts | None = None  # once a worker is ready

    async def start(self) -> None:
        """Start the workers, and wait until all of them are ready.

        Raises:
            FastAdaSPError: the artifact cannot be loaded.
        """
        self._loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[None] = self._loop.create_future()
        for _ in range(self._num_workers):
            self._hire()
        await self._loaded
        self._watch()

    async def close(self) -> None:
        """End the workers; requests that are left are cancelled."""
        self._closed = True
        links, self._links = self._links, []
        for link in links:
            link.dismiss()
        await asyncio.gather(*(asyncio.to_thread(link.wait) for link in links))  # those that hang, at once
        for link in links:
            link.end()

    @property
    def is_ready(self) -> bool:
        """Whether a worker can take a request."""
        return any(link.is_ready for link in self._links)

    @property
    def pids(self) -> tuple[int | None, ...]:
        """The processes."""
        return tuple(link.pid for link in self._links)

    def submit(self, asked: Asked, audio: bytes | BinaryIO) -> Ticket:
        """Hand a request over, with its audio file; a descriptor of its own is taken from that.

        Raises:
            QueueFullError: as many wait as may.
        """
        ticket = Ticket(next(self._numbers), asked, audio, self._deadline)
        self._waiting.append(ticket)
        self._metrics.queue.labels(asked.profile).inc()
        self._feed()
        if len(self._waiting) > self._max_queue:
            self._withdraw(ticket)
            raise QueueFullError(
                f"{self._num_workers * self._plan.max_batch} requests run and {self._max_queue} wait, "
                "which are as many as may: send it again when some have ended"
            )
        ticket.timer = self._loop.call_later(ticket.deadline, self._expire, ticket)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Its answer is not wanted any more, or was read. A worker that still has it ends it soon."""
        if not ticket.is_wanted:
            return
        ticket.is_wanted = False
        if not ticket.has_ended:
            self._metrics.cancelled.labels(ticket.asked.profile).inc()
        if ticket in self._waiting:
            self._withdraw(ticket)
        for link in self._links:
            if ticket.number in link.tickets:
                link.cancel(ticket)
        ticket.close()

    def _hire(self) -> None:
        if self._closed:
            return
        try:
            self._links.append(Link(self._plan, self._heard_in_thread))
        except OSError as error:
            self._fail_to_load(_unstarted(error))
            self._died_loading += 1
            self._hire_later()

    def _hire_later(self) -> None:
        pause = min(LONGEST_PAUSE, 2.0 ** min(self._died_loading, MOST_DOUBLINGS) - 1)
        self._loop.call_later(pause, self._hire)

    def _feed(self) -> None:
        """Give out what waits, to whoever has least to do."""
        while self._waiting:
            roomy = [it for it in self._links if it.is_ready and len(it.tickets) < self._plan.max_batch]
            if not roomy:
                return
            ticket = self._waiting[0]
            self._dequeued(ticket)
            profile = ticket.asked.profile
            self._metrics.queue_seconds.labels(profile).observe(CLOCK() - ticket.begin)
            self._metrics.running.labels(profile).inc()
            min(roomy, key=lambda link: len(link.tickets)).ask(ticket)

    def _dequeued(self, ticket: Ticket) -> None:
        self._waiting.remove(ticket)
        self._metrics.queue.labels(ticket.asked.profile).dec()

    def _withdraw(self, ticket: Ticket) -> None:
        self._dequeued(ticket)
        ticket.close()

    def _expire(self, ticket: Ticket) -> None:
        """Its deadline has passed: one that runs is ended by its worker, which has the same deadline."""
        if ticket in self._waiting:
            self._withdraw(ticket)
            self._give_up(ticket, "while it waited for a worker", WAITED)
        else:
            ticket.timer = self._loop.call_later(
                GRACE, self._give_up, ticket, "and its worker does not answer", WORKED_ON
            )

    def _give_up(self, ticket: Ticket, where: str, remedy: str) -> None:
        if ticket.expire(where, remedy):
            self._metrics.failed.labels(DeadlineExceeded.__name__).inc()

    def _heard_in_thread(self, link: Link, message: FromWorker | None) -> None:
        self._loop.call_soon_threadsafe(self._heard, link, message)

    def _heard(self, link: Link, message: FromWorker | None) -> None:
        if link not in self._links:
            return  # it was ended, and this comes late
        link.silent_looks = 0
        match message:
            case None:
                self._bury(link)
            case Alive():
                pass
            case Ready(facts):
                self._begin(link, facts)
            case Unloadable(error):
                link.has_said_why = True
                self._fail_to_load(error)
            case event:
                ticket = link.tickets[event.number]
                if isinstance(event, Piece):
                    self._count_first_text(ticket)
                if isinstance(event, Ended | Failed):
                    self._end(link, ticket, event)
                else:
                    ticket.tell(event)

    def _begin(self, link: Link, facts: Facts) -> None:
        link.is_ready, self.facts, self._died_loading = True, facts, 0
        self._load_seconds = max(self._load_seconds, CLOCK() - link.begin)
        self._metrics.workers.set(sum(it.is_ready for it in self._links))
        if all(it.is_ready for it in self._links) and not self._loaded.done():
            self._loaded.set_result(None)
        self._feed()

    def _end(self, link: Link, ticket: Ticket, event: Ended | Failed) -> None:
        """The worker has room for another one. What was given up before has been told and counted."""
        del link.tickets[ticket.number]
        self._metrics.running.labels(ticket.asked.profile).dec()
        if isinstance(event, Failed) and not isinstance(event.error, OF_CLIENTS):
            LOGGER.error("request %d failed: %s", ticket.number, event.error)
        if not ticket.has_ended:
            self._count_end(ticket, event)
            ticket.tell(event)
        self._feed()

    def _count_end(self, ticket: Ticket, event: Ended | Failed) -> None:
        match event:
            case Ended(_, answer):
                self._count(answer)
            case Failed(_, error) if not (type(error) is RequestCancelled and not ticket.is_wanted):
                self._metrics.failed.labels(type(error).__name__).inc()

    def _count(self, answer: Answer) -> None:
        metrics, profile = self._metrics, answer.profile
        metrics.audio_seconds.labels(profile).inc(answer.audio_seconds)
        metrics.output_tokens.labels(profile).inc(answer.output_tokens)
        if answer.step_seconds is not None:
            metrics.step_seconds.labels(profile).observe(answer.step_seconds)

    def _count_first_text(self, ticket: Ticket) -> None:
        if not ticket.has_text:
            ticket.has_text = True
            seconds = CLOCK() - ticket.begin
            self._metrics.first_text_seconds.labels(ticket.asked.profile).observe(seconds)

    def _fail_to_load(self, error: FastAdaSPError) -> None:
        """At the start it is told to whoever starts the server; later the worker ends, and is replaced."""
        if not self._loaded.done():
            self._loaded.set_exception(error)
        else:
            LOGGER.error("no worker can be started now: %s", error)

    def _watch(self) -> None:
        """End workers that hang, now and then for as long as the pool is open."""
        if self._closed:
            return
        self._loop.call_later(self._plan.beat_seconds, self._watch)  # whatever becomes of this look
        for link in tuple(self._links):
            if how := link.look(self._load_seconds):
                link.abandon()
                self._metrics.hangs.inc()
                if not link.is_ready:
                    self._died_loading += 1
                self._replace(link, f"{how} and was ended", _hung(how))

    def _bury(self, dead: Link) -> None:
        dead.end()
        how = _how(dead.exit_code)
        if not dead.is_ready:
            if not dead.has_said_why:
                self._fail_to_load(_unloadable(how))
            self._died_loading += 1
        self._replace(dead, f"has died{how}", _died(how))

    def _replace(self, lost: Link, how: str, error: WorkerError) -> None:
        """Another worker for one that has ended; the requests that it had fail."""
        self._links.remove(lost)
        self._metrics.deaths.inc()
        LOGGER.warning("worker %s %s, with %d requests", lost.pid, how, len(lost.tickets))
        self._metrics.workers.set(sum(it.is_ready for it in self._links))
        for ticket in tuple(lost.tickets.values()):
            self._end(lost, ticket, Failed(ticket.number, error))
        self._hire_later()


def _unstarted(error: OSError) -> WorkerError:
    return WorkerError(
        f"no worker process can be started: {error.strerror or error}; give this user more processes, open "
        "files or memory, or use fewer --workers"
    )


def _died(how: str) -> WorkerError:
    return WorkerError(
        f"the worker process that had this request has died{how}; others go on, and "
        "it is replaced. Most likely memory was short: give shorter audio or fewer beams"
    )


def _hung(how: str) -> WorkerHungError:
    return WorkerHungError(
        f"the worker process that had this request {how} and was ended; others go on, and it is replaced. "
        "It may be the request: give shorter audio or fewer beams"
    )


def _unloadable(how: str) -> WorkerError:
    return WorkerError(
        f"a worker process has died{how} while it loaded the artifact, likely for lack of "
        "memory: use fewer --workers or --lean"
    )


def _how(exit_code: int | None) -> str:
    return f" of signal {-exit_code}" if exit_code is not None and exit_code < 0 else ""
