"""A benchmark as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from ..benchmark.records import Benchmark, Case
from ..environment import BUSY, Environment
from .tables import LEGEND, Section, columns
from .units import ABSENT, factor, milliseconds, rate, seconds

COLUMNS = ("request", "prefill", "decode", "step", "RTF", "tok/s", "kept", "KV MB", "RSS MB")
PEAKS = {"run": "of a run", "process": "since the process began"}


def benchmark_sections(benchmark: Benchmark) -> Iterator[Section | str]:
    """A table for each length of audio and number of beams, then how it was measured and on what."""
    for (audio, beams), found in groupby(benchmark.results, lambda case: (case.audio_seconds, case.beams)):
        cases, title = list(found), f"{seconds(audio)} s of audio, {beams} beam{'s' * (beams > 1)}"
        reasons = dict.fromkeys(case.skipped for case in cases if case.skipped is not None)
        yield f"\n{title}: skipped: {'; '.join(reasons)}" if reasons else _section(title, cases)
    yield ""
    yield from _protocol_lines(benchmark)


def _section(title: str, cases: Sequence[Case]) -> Section:
    """Medians, and of several runs p10 and p90 below them."""
    table = columns("profile", *COLUMNS, gap=1)
    for case in cases:
        kept = ABSENT if case.kept_ratio is None else f"{100 * case.kept_ratio:.0f} %"
        memory = (_megabytes(case.kv_bytes), _megabytes(case.peak_rss_bytes))
        table.add_row(case.profile, *_quantiles(case, "median"), kept, *memory)
        if case.runs > 1:
            table.add_row("  p10", *_quantiles(case, "p10"), style="dim")
            table.add_row("  p90", *_quantiles(case, "p90"), style="dim")
    return Section(title, table)


def _protocol_lines(benchmark: Benchmark) -> Iterator[str]:
    protocol, machine = benchmark.protocol, benchmark.environment
    single = all(case.runs <= 1 for case in benchmark.results)
    yield "Times in ms." if single else "Medians in ms, with the 10th and the 90th percentile."
    yield f"{LEGEND}."
    runs = _range([case.runs for case in benchmark.results if case.runs])
    yield f"{runs} counted runs after {protocol.warmup} of warm-up, profiles in turns."
    yield f"{protocol.new_tokens} new tokens; audio: {protocol.audio}, given as samples."
    peak = PEAKS[protocol.peak_rss_scope]
    yield f"RSS: peak {peak}, all profiles loaded, memory-mapped weights included."
    load = machine.load_average
    yield (
        f"{machine.cpu or 'unknown CPU'}, {machine.threads} of {machine.cores} cores used, "
        f"load {ABSENT if load is None else f'{load[0]:.2f}'}, {machine.platform}"
    )
    yield from busy_lines(machine)


def busy_lines(machine: Environment) -> Iterator[str]:
    """A warning, where other work has had a part of the machine that was timed."""
    load = machine.load_average
    if load is not None and load[0] > BUSY:
        yield f"The machine was busy (load {load[0]:.1f}): times may be longer than on one that is idle."


def _quantiles(case: Case, which: str) -> tuple[str, ...]:
    found = case.figures or {}
    values = {name: getattr(spread, which) if spread else None for name, spread in found.items()}
    times = (values[f"{name}_ms"] for name in ("request", "prefill", "decode", "step"))
    return (*map(milliseconds, times), factor(values["rtf"]), rate(values["tokens_per_second"]))


def _range(numbers: Iterable[int]) -> str:
    found = sorted(set(numbers))
    return "no" if not found else str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


def _megabytes(num_bytes: int | None) -> str:
    return rate(None if num_bytes is None else num_bytes / 1e6)
