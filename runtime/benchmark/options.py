"""What a benchmark is asked for, checked once; quick to import, so that a command line shows its defaults."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

from ...profiles.errors import RequestError
from ...profiles.faults import count_fault, count_faults, shown
from ..backend_options import threads_fault
from ..decoding.options import MOST_BEAMS, MOST_NEW_TOKENS

_LEAST = {"new_tokens": 1, "runs": 1, "warmup": 0}
MOST_RUNS = 10**6  # counted runs, or runs of warm-up; far more than any percentile needs
_MOST = {"new_tokens": MOST_NEW_TOKENS, "runs": MOST_RUNS, "warmup": MOST_RUNS}
LONGEST_SECONDS = 1e6  # far more than any model's positions hold


@dataclass(frozen=True)
class BenchmarkOptions:
    """Every number of beams x every length of audio x every profile. Raises RequestError with every fault."""

    profiles: tuple[str, ...] = ()  # of the artifact; all of them if empty
    beams: tuple[int, ...] = (1, 5)
    audio_seconds: tuple[float, ...] = (30.0, 120.0, 240.0)
    clip: Path | None = None  # repeated to each length; without one, the audio is seeded noise
    prompt: str | None = None
    new_tokens: int = 64  # exactly so many: end tokens are put off until the last one
    runs: int = 10  # counted runs of each combination, at least
    warmup: int = 3
    threads: int = 0  # of one run; 0 takes one per core

    def __post_init__(self) -> None:
        if faults := list(_faults(self)):
            raise RequestError("; ".join(faults))


def _faults(options: BenchmarkOptions) -> Iterator[str]:
    yield from count_faults(options, _LEAST, _MOST)
    yield from threads_fault(options.threads)
    for beams in options.beams:
        yield from count_fault("beams", beams, 1, MOST_BEAMS)
    for seconds in options.audio_seconds:
        if not isinstance(seconds, Real) or isinstance(seconds, bool) or not seconds > 0:
            yield f"audio_seconds is {_number(seconds)}: give a number above 0"
        elif seconds > LONGEST_SECONDS:
            yield f"audio_seconds is {_number(seconds)}: give at most {LONGEST_SECONDS:.0f}"


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else shown(value)
