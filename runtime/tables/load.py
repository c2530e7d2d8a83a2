"""A load bench as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.table import Table

from ..benchmark.load.records import LoadBenchmark, LoadCase, Percentiles
from .tables import Section, columns
from .units import ABSENT, milliseconds, rate, seconds

TIMES = {"request": "request_ms", "first token": "first_token_ms", "step": "step_ms", "wait": "wait_ms"}
PERCENTILES = ("p50", "p90", "p99")
COLUMNS = ("n", *TIMES, "req/s", "audio/s", "tok/s", "CPU ms")


def load_sections(benchmark: LoadBenchmark) -> Iterator[Section | str]:
    """A table for each load, then how it was measured and on what."""
    for level, found in groupby(benchmark.results, lambda case: case.level):
        cases = list(found)
        yield Section(level.label, _table(cases))
        yield from _failures(cases)
    yield ""
    yield from _protocol_lines(benchmark)


def _table(cases: Sequence[LoadCase]) -> Table:
    table = columns("profile", *COLUMNS, gap=1)
    for case in cases:
        speeds = case.requests_per_second, case.audio_seconds_per_second, case.tokens_per_second
        cpu = milliseconds(case.cpu_ms_per_request)
        table.add_row(case.profile, str(case.answered), *_times(case, "p50"), *map(rate, speeds), cpu)
        for name in PERCENTILES[1:]:
            table.add_row(f"  {name}", "", *_times(case, name), *[""] * 4, style="dim")
    return table


def _times(case: LoadCase, percentile: str) -> tuple[str, ...]:
    return tuple(milliseconds(value_of(case.times[name], percentile)) for name in TIMES.values())


def value_of(found: Percentiles | None, percentile: str) -> float | None:
    """A percentile by its name, of what was measured."""
    return None if found is None else float(getattr(found, percentile))


def _failures(cases: Sequence[LoadCase]) -> Iterator[str]:
    for case in cases:
        for error, count in case.failures.items():
            yield f"{case.profile}: {count} requests ended with {error}"


def _protocol_lines(benchmark: LoadBenchmark) -> Iterator[str]:
    protocol, machine = benchmark.protocol, benchmark.environment
    yield "Times in ms: the median, the 90th and the 99th percentile of n requests."
    yield "first token: of requests without beams; step: decode / steps; wait: before it ran."
    yield "audio/s: seconds of audio a second; CPU ms: of all threads, a request."
    lengths = ", ".join(f"{seconds(each)} s" for each in protocol.audio_seconds)
    beams = ", ".join(map(str, protocol.beams))
    yield f"Requests: {lengths} of audio ({protocol.audio}); beams {beams}; {protocol.new_tokens} new tokens."
    settings = f"max_batch {protocol.max_batch}, seed {protocol.seed}"
    yield f"{protocol.warmup} requests of warm-up before each load; {settings}."
    load = machine.load_average
    yield (
        f"{machine.cpu or 'unknown CPU'}, {machine.threads} of {machine.cores} cores used, "
        f"load {ABSENT if load is None else f'{load[0]:.2f}'}, {machine.platform}"
    )
