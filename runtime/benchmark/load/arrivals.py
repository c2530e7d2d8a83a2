"""How requests arrive: each client after its last answer (closed), or at drawn times whatever runs (open).

A request of open arrivals is timed from the moment when it was due. If the model, or this program, is so busy
that it is sent later, the delay is part of its latency: leaving it out would hide the very waits that a load
is measured for ("coordinated omission").
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ....profiles.errors import FastAdaSPError
from ...results import GenerationResult


class Submitted(Protocol):
    """A request under way."""

    def result(self, timeout: float | None = None) -> GenerationResult:
        """Wait for its answer."""
        ...


class Clock(Protocol):
    """What tells the time."""

    def now(self) -> float:
        """Seconds from some moment on."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class MonotonicClock:
    """That of the system."""

    def now(self) -> float:
        """Seconds."""
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


Send = Callable[[int], Submitted]
"""Submits request i without waiting for its answer."""
Ended = Callable[[], None]
"""Called after each request."""


@dataclass(frozen=True)
class Arrival:
    """A request that has ended. Times are in seconds from the begin of the load."""

    index: int
    due: float
    sent: float
    result: GenerationResult | None
    error: str | None = None  # the class of what it ended with instead

    @property
    def end(self) -> float:
        """When its answer was there; when it was sent, where there is none."""
        return self.sent + (self.result.latency.request_ms / 1e3 if self.result else 0.0)

    @property
    def late_ms(self) -> float:
        """Milliseconds between due and sent."""
        return (self.sent - self.due) * 1e3


def poisson(rate: float, seed: int) -> Iterator[float]:
    """Arrival times without end, in seconds: gaps are exponential with mean 1 / rate."""
    dice, now = np.random.default_rng(seed), 0.0
    while True:
        now += float(dice.exponential(1 / rate))
        yield now


def until(times: Iterable[float], requests: int | None, seconds: float | None) -> Iterator[float]:
    """The first of some rising times: so many, or those before an end."""
    if seconds is not None:
        return itertools.takewhile(lambda due: due < seconds, times)
    return itertools.islice(times, requests)


def open_arrivals(
    times: Iterable[float], send: Send, clock: Clock, ended: Ended = lambda: None
) -> list[Arrival]:
    """Send a request at each of those times, and gather the answers afterwards."""
    begin, under_way = clock.now(), list[tuple[int, float, float, Submitted | str]]()
    for i, due in enumerate(times):
        if (early := begin + due - clock.now()) > 0:
            clock.sleep(early)
        sent = clock.now() - begin
        under_way.append((i, due, sent, _sent(send, i)))
    found = []
    for each in under_way:
        found.append(_arrival(*each))
        ended()
    return found


def closed_arrivals(
    clients: int,
    send: Send,
    clock: Clock,
    *,
    requests: int | None = None,
    seconds: float | None = None,
    ended: Ended = lambda: None,
) -> list[Arrival]:
    """Let each client send a request when it has its last answer, until there are enough, or time is up."""
    numbers, found, stopped = itertools.count(), list[Arrival](), threading.Event()
    lock, begin = threading.Lock(), clock.now()

    def client() -> None:
        while not stopped.is_set():
            i, due = next(numbers), clock.now() - begin
            if due >= seconds if seconds is not None else i >= (requests or 0):
                return
            arrival = _arrival(i, due, due, _sent(send, i))
            with lock:
                found.append(arrival)
                ended()

    with ThreadPoolExecutor(clients, "client") as threads:
        try:
            for ended_client in as_completed([threads.submit(client) for _ in range(clients)]):
                ended_client.result()
        finally:
            stopped.set()
    return found


def _sent(send: Send, index: int) -> Submitted | str:
    """A request under way, or what it was refused with."""
    try:
        return send(index)
    except FastAdaSPError as error:
        return type(error).__name__


def _arrival(index: int, due: float, sent: float, under_way: Submitted | str) -> Arrival:
    if isinstance(under_way, str):
        return Arrival(index, due, sent, None, under_way)
    try:
        return Arrival(index, due, sent, under_way.result())
    except FastAdaSPError as error:
        return Arrival(index, due, sent, None, type(error).__name__)
