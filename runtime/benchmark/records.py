"""The result of a benchmark, as `bench` writes it and `report` reads it. Times are in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..environment import Environment

BENCHMARK_FORMAT = 2
SPREADS = "median, 10th and 90th percentile over the counted runs of a combination"


@dataclass(frozen=True)
class Spread:
    """Median and the 10th and 90th percentile of one figure over the counted runs; of one run it has none."""

    median: float
    p10: float | None = None
    p90: float | None = None


@dataclass(frozen=True)
class Case:
    """One combination. Without counted runs `skipped` says why, and the figures are absent."""

    beams: int
    audio_seconds: float
    profile: str
    runs: int = 0
    skipped: str | None = None
    figures: Mapping[str, Spread | None] | None = None  # by the names of `FIGURES`
    stages_ms: Mapping[str, Spread | None] | None = None  # by the names of `STAGES`
    kept_ratio: float | None = None
    kv_bytes: int | None = None
    peak_rss_bytes: int | None = None

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.beams} beam{'s' * (self.beams > 1)}, {self.audio_seconds:g} s, {self.profile}"

    def median(self, figure: str) -> float | None:
        """Of a figure, if it was measured."""
        found = (self.figures or {}).get(figure)
        return None if found is None else found.median


@dataclass(frozen=True)
class BenchmarkProtocol:
    """How every combination was measured."""

    profiles: tuple[str, ...]
    beams: tuple[int, ...]
    audio_seconds: tuple[float, ...]
    clip: str | None
    prompt: str | None
    new_tokens: int
    runs: int  # asked for; those of short requests are more, and fewer where it was stopped
    warmup: int
    threads: int  # of one run; 0 is one per core
    audio: str  # where the samples come from
    peak_rss_scope: str  # of `PeakMemory`
    order: str = "profiles in turns"
    spreads: str = SPREADS


@dataclass(frozen=True)
class Benchmark:
    """A finished matrix with all that is needed to read it."""

    artifact: Mapping[str, Any]  # its identity, and the device that ran it
    protocol: BenchmarkProtocol
    environment: Environment
    results: tuple[Case, ...]


class BenchmarkStopped(KeyboardInterrupt):
    """Ctrl-C, with the rounds that are whole by then."""

    def __init__(self, found: Benchmark) -> None:
        super().__init__()
        self.found = found
