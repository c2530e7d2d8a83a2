"""The result of a load bench, as `bench` writes it and `report` reads it. Times are in milliseconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ....profiles.codec import RecordError
from ...environment import Environment
from .options import Arrivals, Level

LOAD_FORMAT = 1
TIMES = {
    "request_ms": "from when a request was due to its answer",
    "first_token_ms": "from when it was due to its first token; of requests without beams",
    "step_ms": "decode / decode steps: the time per further token",
    "wait_ms": "in which it was due and in none of its stages; waits for a turn within a stage are of that",
}
"""The times of a request, and what each is."""
MEASURED = (
    "open arrivals are timed from the moment that was drawn for them, even if they could only be sent later; "
    "closed ones from when they were sent. Rates are over the time from first arrival to last answer. The "
    "99th percentile of fewer than 100 requests is near the largest."
)


@dataclass(frozen=True)
class Percentiles:
    """What so many values are below, half of them, 90 and 99 of a hundred, and the largest."""

    count: int
    p50: float
    p90: float
    p99: float
    largest: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Percentiles | None:
        """Of those that are there; None where none is."""
        numbers = [value for value in values if value is not None]
        if not numbers:
            return None
        p50, p90, p99, largest = np.percentile(numbers, (50, 90, 99, 100)).tolist()
        return cls(len(numbers), p50, p90, p99, largest)


@dataclass(frozen=True)
class LoadCase:
    """One profile under one load."""

    profile: str
    arrivals: Arrivals
    clients: int | None  # of closed arrivals
    rate: float | None  # of open ones: requests a second, as asked for
    answered: int
    failures: Mapping[str, int]  # class of an error -> requests that ended with it; no time counts them
    seconds: float  # from the first arrival to the last answer
    requests_per_second: float
    audio_seconds_per_second: float
    tokens_per_second: float
    cpu_ms_per_request: float | None  # of all threads of this process; None without an answer
    times: Mapping[str, Percentiles | None]  # by the names of `TIMES`
    peak_rss_bytes: int | None = None

    def __post_init__(self) -> None:
        value, other = (self.clients, self.rate) if self.arrivals == "closed" else (self.rate, self.clients)
        if value is None or value <= 0 or other is not None:
            raise RecordError(f"{self.arrivals} arrivals have clients {self.clients}, rate {self.rate}")

    @property
    def level(self) -> Level:
        """The load."""
        return Level(self.arrivals, self.clients or self.rate or 0.0)


@dataclass(frozen=True)
class LoadProtocol:
    """How every load was measured."""

    profiles: tuple[str, ...]
    concurrency: tuple[int, ...]
    rates: tuple[float, ...]
    beams: tuple[int, ...]
    audio_seconds: tuple[float, ...]
    clip: str | None
    prompt: str | None
    new_tokens: int
    requests: int | None  # of each load; None where `seconds` ended it
    seconds: float | None
    warmup: int
    seed: int
    max_batch: int
    threads: int  # of one run; 0 is one per core
    audio: str  # where the samples come from
    peak_rss_scope: str  # of `PeakMemory`
    times: Mapping[str, str]  # what each time of a case is
    measured: str = MEASURED


@dataclass(frozen=True)
class LoadBenchmark:
    """Finished loads with all that is needed to read them."""

    artifact: Mapping[str, Any]  # its identity, and the device that ran it
    protocol: LoadProtocol
    environment: Environment
    results: tuple[LoadCase, ...]


class LoadStopped(KeyboardInterrupt):
    """Ctrl-C, with the loads that had ended by then."""

    def __init__(self, found: LoadBenchmark) -> None:
        super().__init__()
        self.found = found
