"""The latency of `bench`: where the time of a request goes, and the table of medians."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from ....runtime.benchmark.records import Benchmark, Case
from ....runtime.tables.benchmark import busy_lines
from ....runtime.tables.units import ABSENT, factor, milliseconds, percent, rate
from ...results.files import ResultFile
from ..page_model import Plot, Section, Swatch, Table
from ..plotly_parts import axis, hover, names_axis, plotly_figure, row_height
from ..series_style import COLOURS, block_drawing

PARTS = {"front end and encoder": "#8a9099", "prefill": COLOURS[0], "decode": COLOURS[1]}
FRONT_END = ("audio", "mel", "encoder", "prompt")  # stages
TIMES = ("request", "prefill", "decode", "step")
COLUMNS = ("RTF", "tokens/s", "rows kept", "KV MB", "runs")


def latency_table_section(benchmarks: Sequence[ResultFile[Benchmark]]) -> Section | None:
    """A plot and a table for each length of audio and number of beams."""
    if not benchmarks:
        return None
    return Section(
        "Latency of requests",
        "Where the time of a request goes: medians over the counted runs. Each part of a bar is a median of "
        "its own, so that bars may differ a little from requests.",
        tuple(Swatch(name, name, block_drawing(colour)) for name, colour in PARTS.items()),
        tuple(_plot(benchmark, cases) for benchmark in benchmarks for cases in _groups(benchmark)),
        tuple(map(_table, benchmarks)),
        notes=(
            "RTF = request latency / audio seconds; tokens/s = tokens of the hypothesis / decode latency.",
            *(
                f"{benchmark.name}: {line}"
                for benchmark in benchmarks
                for line in busy_lines(benchmark.found.environment)
            ),
            *(note for benchmark in benchmarks for note in _skipped(benchmark)),
        ),
    )


def _groups(benchmark: ResultFile[Benchmark]) -> Iterator[list[Case]]:
    """Cases that differ in the profile alone."""
    for _, found in groupby(benchmark.found.results, lambda case: (case.audio_seconds, case.beams)):
        if cases := [case for case in found if case.median("request_ms") is not None]:
            yield cases


def _plot(benchmark: ResultFile[Benchmark], cases: Sequence[Case]) -> Plot:
    first = cases[0]
    place = f"{first.audio_seconds:g} s of audio, {first.beams} beam{'s' * (first.beams != 1)}"
    figure = plotly_figure(
        [_part(name, cases) for name in PARTS],
        axis("ms", rangemode="tozero", nticks=5),
        names_axis([case.profile for case in cases]),
        row_height(len(cases)),
        barmode="stack",
        bargap=0.35,
    )
    rows = tuple((case.profile, *(_spread(case, f"{name}_ms") for name in TIMES)) for case in cases)
    table = Table(("profile", *TIMES), rows, "Medians in ms, with the 10th and the 90th percentile")
    return Plot(
        place, benchmark.name, f"Time of a request under {len(cases)} profiles: {place}", figure, table
    )


def _part(name: str, cases: Sequence[Case]) -> dict[str, Any]:
    values = [_parts(case)[name] for case in cases]
    return {
        "type": "bar",
        "orientation": "h",
        "legendgroup": name,
        "x": [value or 0 for value in values],
        "y": list(range(len(cases))),
        "marker": {"color": PARTS[name]},
        "hoverinfo": "text",
        "hovertext": [
            hover(
                case.profile, f"{name} {milliseconds(value)} ms", f"request {_spread(case, 'request_ms')} ms"
            )
            for case, value in zip(cases, values, strict=True)
        ],
    }


def _parts(case: Case) -> dict[str, float | None]:
    parts = (_front_end_ms(case), case.median("prefill_ms"), case.median("decode_ms"))
    return dict(zip(PARTS, parts, strict=True))


def _front_end_ms(case: Case) -> float | None:
    """The stages before the decoder together."""
    found = [spread for name in FRONT_END if (spread := (case.stages_ms or {}).get(name)) is not None]
    return sum(spread.median for spread in found) if found else None


def _table(benchmark: ResultFile[Benchmark]) -> Table:
    columns = ("audio", "beams", "profile", *TIMES, *COLUMNS)
    rows = tuple(_row(case) for case in benchmark.found.results)
    return Table(columns, rows, f"{benchmark.name}: medians, times in ms", texts=3)


def _row(case: Case) -> tuple[str, ...]:
    times = (milliseconds(case.median(f"{name}_ms")) for name in TIMES)
    memory = ABSENT if case.kv_bytes is None else rate(case.kv_bytes / 1e6)
    speed = factor(case.median("rtf")), rate(case.median("tokens_per_second"))
    place = f"{case.audio_seconds:g} s", str(case.beams), case.profile
    return (*place, *times, *speed, percent(case.kept_ratio), memory, str(case.runs))


def _spread(case: Case, name: str) -> str:
    found = (case.figures or {}).get(name)
    if found is None:
        return ABSENT
    if found.p10 is None or found.p90 is None:
        return milliseconds(found.median)
    return f"{milliseconds(found.median)} ({milliseconds(found.p10)} to {milliseconds(found.p90)})"


def _skipped(benchmark: ResultFile[Benchmark]) -> Iterator[str]:
    for case in benchmark.found.results:
        if case.skipped:
            combination = f"{case.audio_seconds:g} s, {case.beams} beams, {case.profile}"
            yield f"{benchmark.name}: {combination} was skipped: {case.skipped}"
