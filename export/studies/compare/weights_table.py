"""What each weight format costs, as tables: every profile in every format, against float32 weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ....evaluation.metrics.metric import Metric
from ....evaluation.metrics.word_errors import is_detail
from ....evaluation.results.comparison import FLOAT32, CellRecord, FormatRecord
from ....evaluation.results.figure_text import figure_of, interval_text, p_text, value_text
from ....evaluation.results.figures import Difference
from ....evaluation.table import unit
from ....profiles.methods import FULL_MODEL
from ....runtime.tables.tables import Section, columns
from ....runtime.tables.units import in_percent, milliseconds, size
from .comparison import Comparison
from .grid import Cell, Row
from .options import NONE

TIMED = "Times: medians over the clips, which all formats answer in turn; step: one of the decoder"
MEMORY = "of a process that loads one profile and answers the longest clip, libraries included"
UNTIMED = (
    "Times are not measured with several workers, which compete for the machine, nor with the token loss or "
    "shared steps, nor told where a run went on with other workers or threads"
)


@dataclass(frozen=True)
class _Line:
    """One profile in one format."""

    profile: str
    format: FormatRecord
    result: CellRecord


def weight_sections(comparison: Comparison) -> Iterator[Section]:
    """A table per metric and one of costs."""
    lines = list(_lines(comparison))
    for metric in comparison.metrics:
        if is_detail(metric) or comparison.full.figures[metric.name].reason:
            continue  # it is told already
        yield _accuracy(comparison, lines, metric)
    yield _costs(comparison, lines)


def _lines(comparison: Comparison) -> Iterator[_Line]:
    """The formats of a profile stand below each other."""
    found = [
        (_name(row, cell), row.quantized, result)
        for row, results in comparison.rows
        for cell, result in zip(row.cells, results, strict=True)
        if cell.profiles
    ]
    found.insert(0, (FULL_MODEL, comparison.formats[0].quantized, comparison.full))
    by_format = {each.quantized: each for each in comparison.formats}
    for name in dict.fromkeys(name for name, _, _ in found):
        for own, quantized, result in found:
            if own == name:
                yield _Line(name, by_format[quantized], result)


def _name(row: Row, cell: Cell) -> str:
    if row.is_full:
        return FULL_MODEL
    return f"{replace(row, quantized=None).label}, {in_percent(cell.level)} %"


def _accuracy(comparison: Comparison, lines: list[_Line], metric: Metric) -> Section:
    table = columns("profile", "weights", metric.title + unit(metric), "95 %", "delta", "95 %", "p", left=2)
    for line in lines:
        found = figure_of(metric, line.result.figures)
        own = value_text(metric, found.value), interval_text(metric, found.estimate)
        change = _difference(metric, line.result.from_float32.get(metric.name))
        table.add_row(line.profile, line.format.name, *own, *change)
    legend = f"delta: less that of {FLOAT32} weights under the same profile, on the same resamples"
    if all(each.quantized is not None for each in comparison.formats):
        legend = f"no delta: it would be from {FLOAT32} weights, which --quantize {NONE} adds"
    return Section(f"Weights: {metric.title}, {metric.better}", table, legend)


def _difference(metric: Metric, found: Difference | None) -> tuple[str, str, str]:
    if found is None:
        return "", "", ""
    change = found.times(metric.scale)
    return value_text(metric, change.value, "+"), interval_text(metric, change, "+"), p_text(change)


def _costs(comparison: Comparison, lines: list[_Line]) -> Section:
    table = columns("profile", "weights", "prefill ms", "step ms", "weights", "peak memory", left=2)
    for line in lines:
        result = line.result
        times = milliseconds(result.prefill_ms), milliseconds(result.step_ms)
        memory = size(line.format.weight_bytes), size(result.peak_bytes)
        table.add_row(line.profile, line.format.name, *times, *memory)
    timed = TIMED if comparison.timed else UNTIMED
    return Section("Weights: time and memory", table, f"{timed}. Peak: {MEMORY}.")
