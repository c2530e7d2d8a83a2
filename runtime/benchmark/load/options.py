"""What a load bench is asked for, checked once; quick to import, for the defaults of a command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Literal

from ....profiles.errors import RequestError
from ....profiles.faults import count_fault, count_faults, is_count, shown
from ...backend_options import threads_fault
from ...decoding.options import MOST_BEAMS, MOST_NEW_TOKENS
from ...runtime_options import MOST_BATCH, RuntimeOptions
from ..options import LONGEST_SECONDS, MOST_RUNS

MOST_CLIENTS = 1024
DEFAULT_REQUESTS = 100
_LEAST = {"new_tokens": 1, "warmup": 0, "seed": 0, "max_batch": 1}
_MOST = {"new_tokens": MOST_NEW_TOKENS, "warmup": MOST_RUNS, "max_batch": MOST_BATCH}

Arrivals = Literal["closed", "open"]


@dataclass(frozen=True)
class Level:
    """One load: a number of clients that each wait for their answer, or a rate at which requests come."""

    arrivals: Arrivals
    value: float  # clients of closed arrivals, requests a second of open ones

    @property
    def label(self) -> str:
        """For people."""
        return (
            f"{self.value:g} client{'s' * (self.value != 1)}"
            if self.arrivals == "closed"
            else f"{self.value:g} requests/s"
        )


@dataclass(frozen=True)
class LoadOptions:
    """Every load x every profile; requests of a load mix beams and lengths. Raises RequestError."""

    concurrency: tuple[int, ...] = ()  # clients, each of which sends its next request when it has its answer
    rates: tuple[float, ...] = ()  # mean requests a second, which come at random whatever runs
    profiles: tuple[str, ...] = ()  # of the artifact; all of them if empty
    beams: tuple[int, ...] = (1,)  # each request has one of them
    audio_seconds: tuple[float, ...] = (10.0,)  # and one of these
    clip: Path | None = None  # repeated to each length; without one, the audio is seeded noise
    prompt: str | None = None
    new_tokens: int = 64  # exactly so many: end tokens are put off until the last one
    requests: int | None = None  # of each load; `DEFAULT_REQUESTS` if neither it nor `seconds` is given
    seconds: float | None = None  # in which requests of a load begin, instead of a number of them
    warmup: int = 3  # requests before each load that are not counted
    seed: int = 0  # of the arrivals, and of beams and lengths
    max_batch: int = RuntimeOptions.max_batch  # with which the model was loaded
    threads: int = 0  # of one run; 0 takes one per core

    def __post_init__(self) -> None:
        if faults := list(_faults(self)):
            raise RequestError("; ".join(faults))

    @property
    def levels(self) -> tuple[Level, ...]:
        """All loads."""
        closed = (Level("closed", clients) for clients in self.concurrency)
        return (*closed, *(Level("open", rate) for rate in self.rates))

    @property
    def num_requests(self) -> int | None:
        """Of each load; None where time ends it."""
        return (self.requests or DEFAULT_REQUESTS) if self.seconds is None else None


def _faults(options: LoadOptions) -> Iterator[str]:
    yield from count_faults(options, _LEAST, _MOST)
    yield from threads_fault(options.threads)
    if not options.concurrency and not options.rates:
        yield "neither concurrency nor rates: give numbers of clients, or requests a second"
    for clients in options.concurrency:
        yield from count_fault("concurrency", clients, 1, MOST_CLIENTS)
    yield from _idle_clients(options)
    for beams in options.beams:
        yield from count_fault("beams", beams, 1, MOST_BEAMS)
    if options.requests is not None:
        yield from count_fault("requests", options.requests, 1, MOST_RUNS)
        if options.seconds is not None:
            yield "requests and seconds exclude each other: give a load a number of requests, or a time"
    for name in ("rates", "audio_seconds"):
        yield from _numbers(name, getattr(options, name))
    if options.seconds is not None:
        yield from _numbers("seconds", (options.seconds,))


def _idle_clients(options: LoadOptions) -> Iterator[str]:
    """With fewer requests than clients some of those never send one."""
    requests, counts = options.num_requests, [each for each in options.concurrency if is_count(each, 1)]
    if counts and is_count(requests, 1) and requests < max(counts):
        yield (
            f"requests is {requests}, fewer than the {max(counts)} clients of concurrency: give at least as "
            "many, or seconds"
        )


def _numbers(name: str, values: Sequence[object]) -> Iterator[str]:
    for value in values:
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if not is_number or not 0 < value <= LONGEST_SECONDS:  # type: ignore[operator]
            yield f"{name} is {shown(value)}: give a number above 0, at most {LONGEST_SECONDS:.0f}"
