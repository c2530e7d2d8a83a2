"""A model under load: throughput and latency over the number of clients, or over the rate of arrivals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from ....runtime.benchmark.load.records import LoadBenchmark, LoadCase, Percentiles
from ....runtime.tables.units import ABSENT, milliseconds, rate, size
from ...results.files import ResultFile
from ..page_model import Plot, Section, Swatch, Table
from ..plotly_parts import axis, hover, log_axis, plotly_figure
from ..series_style import NEUTRAL, Style, line_drawing, styles

File = ResultFile[LoadBenchmark]
PERCENTILES = {"p50": "solid", "p90": "dash", "p99": "dot"}
"""Which of them are drawn, each with its dash."""
AXES = {"closed": "clients that wait for their answers", "open": "requests a second, at random"}
LOADS = {"closed": "clients", "open": "rate of arrivals"}
SPEEDS: dict[str, Callable[[LoadCase], float]] = {
    "requests a second": lambda case: case.requests_per_second,
    "seconds of audio a second": lambda case: case.audio_seconds_per_second,
}
TIMES = {"request_ms": "latency of a request", "first_token_ms": "time to first token"}
"""Which times are drawn."""
COLUMNS = {"request": "request_ms", "first token": "first_token_ms", "step": "step_ms", "wait": "wait_ms"}


def load_section(benchmarks: Sequence[File]) -> Section | None:
    """Plots and a table for each file."""
    if not benchmarks:
        return None
    names = (case.profile for each in benchmarks for case in each.found.results)
    style = {name: replace(each, dash="solid") for name, each in styles(names).items()}
    return Section(
        "Under load",
        "Requests that run at once share the machine: more of them are answered, and each takes longer.",
        tuple(_legend(style)),
        tuple(plot for each in benchmarks for plot in _plots(each, style)),
        tuple(map(_table, benchmarks)),
        notes=tuple(note for each in benchmarks for note in _failures(each)),
    )


def _legend(style: dict[str, Style]) -> Iterator[Swatch]:
    for profile, each in style.items():
        yield Swatch(profile, profile, each.drawing)
    for name, dash in PERCENTILES.items():
        yield Swatch(f"{name} of a time", "", line_drawing(NEUTRAL, dash))


def _plots(benchmark: File, style: dict[str, Style]) -> Iterator[Plot]:
    for arrivals, found in groupby(benchmark.found.results, lambda case: case.arrivals):
        cases = [case for case in found if case.answered]
        if not cases:
            continue
        for title, speed in SPEEDS.items():
            yield _throughput(benchmark, cases, style, title, speed, arrivals)
        for name, title in TIMES.items():
            if any(case.times.get(name) for case in cases):
                yield _latency(benchmark, cases, style, name, title, arrivals)


def _throughput(
    benchmark: File,
    cases: Sequence[LoadCase],
    style: dict[str, Style],
    title: str,
    speed: Callable[[LoadCase], float],
    arrivals: str,
) -> Plot:
    traces = [
        {
            **_line(profile, own, [speed(case) for case in own], style[profile], "solid"),
            "hovertext": [
                hover(f"{profile}, {case.level.label}", f"{rate(speed(case))} {title}") for case in own
            ],
        }
        for profile, own in _series(cases)
    ]
    figure = plotly_figure(traces, _loads(cases, arrivals), axis(rangemode="tozero", nticks=6))
    rows = tuple((case.level.label, case.profile, rate(speed(case))) for case in cases)
    return Plot(
        f"{title.capitalize()} over the {LOADS[arrivals]}",
        benchmark.name,
        f"How many {title} each profile answers, by the {LOADS[arrivals]}",
        figure,
        Table(("load", "profile", title), rows, "Answered requests alone", texts=2),
    )


def _latency(
    benchmark: File, cases: Sequence[LoadCase], style: dict[str, Style], name: str, title: str, arrivals: str
) -> Plot:
    traces = [
        _percentile(profile, own, name, percentile, style[profile])
        for profile, own in _series([case for case in cases if case.times.get(name)])
        for percentile in PERCENTILES
    ]
    values = [value for trace in traces for value in trace["y"] if value > 0]
    y = log_axis(min(values), max(values), "ms") if values else axis("ms")
    rows = tuple(
        (
            case.level.label,
            case.profile,
            *(_text(case.times.get(name), each) for each in PERCENTILES),
            _count(case, name),
        )
        for case in cases
    )
    return Plot(
        f"{title.capitalize()} over the {LOADS[arrivals]}",
        benchmark.name,
        f"Percentiles of the {title} under each profile, by the {LOADS[arrivals]}",
        plotly_figure(traces, _loads(cases, arrivals), y),
        Table(("load", "profile", *PERCENTILES, "requests"), rows, "Percentiles in ms", texts=2),
    )


def _percentile(
    profile: str, cases: Sequence[LoadCase], name: str, percentile: str, style: Style
) -> dict[str, Any]:
    values = [_value(case.times.get(name), percentile) or 0.0 for case in cases]
    return {
        **_line(profile, cases, values, style, PERCENTILES[percentile]),
        "hovertext": [
            hover(
                f"{profile}, {case.level.label}",
                f"{percentile} {milliseconds(value)} ms of {_count(case, name)} requests",
            )
            for case, value in zip(cases, values, strict=True)
        ],
    }


def _line(
    profile: str, cases: Sequence[LoadCase], values: Sequence[float], style: Style, dash: str
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "legendgroup": profile,
        "x": [case.level.value for case in cases],
        "y": list(values),
        "line": {**style.line, "dash": dash},
        "marker": style.point,
        "hoverinfo": "text",
    }


def _series(cases: Sequence[LoadCase]) -> Iterator[tuple[str, list[LoadCase]]]:
    """The cases of each profile, by rising load."""
    for profile in dict.fromkeys(case.profile for case in cases):
        own = [case for case in cases if case.profile == profile]
        yield profile, sorted(own, key=lambda case: case.level.value)


def _loads(cases: Sequence[LoadCase], arrivals: str) -> dict[str, Any]:
    """The axis of the loads: logarithmic, as clients are mostly doubled; each load of the file is a tick."""
    loads = sorted({case.level.value for case in cases})
    labels = {"tickvals": loads, "ticktext": [f"{load:g}" for load in loads]}
    return {**log_axis(loads[0], loads[-1], AXES[arrivals]), **labels}


def _table(benchmark: File) -> Table:
    speeds = "requests/s", "audio s/s", "tokens/s", "CPU ms/request"
    columns = ("load", "profile", "answered", *COLUMNS, *speeds, "peak RSS")
    rows = tuple(map(_row, benchmark.found.results))
    return Table(columns, rows, f"{benchmark.name}: times in ms, p50 / p90 / p99", texts=2)


def _row(case: LoadCase) -> tuple[str, ...]:
    times = (
        " / ".join(_text(case.times.get(name), each) for each in PERCENTILES) for name in COLUMNS.values()
    )
    speeds = map(rate, (case.requests_per_second, case.audio_seconds_per_second, case.tokens_per_second))
    cpu, memory = milliseconds(case.cpu_ms_per_request), size(case.peak_rss_bytes)
    return (case.level.label, case.profile, str(case.answered), *times, *speeds, cpu, memory)


def _failures(benchmark: File) -> Iterator[str]:
    for case in benchmark.found.results:
        for error, count in case.failures.items():
            yield f"{benchmark.name}: {case.profile}, {case.level.label}: {count} requests ended with {error}"


def _value(found: Percentiles | None, percentile: str) -> float | None:
    return None if found is None else float(getattr(found, percentile))


def _text(found: Percentiles | None, percentile: str) -> str:
    return milliseconds(_value(found, percentile))


def _count(case: LoadCase, name: str) -> str:
    found = case.times.get(name)
    return ABSENT if found is None else str(found.count)
