"""What weight formats cost: every profile in every format, against float32 weights of the same profile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ....profiles.methods import FULL_MODEL
from ....runtime.tables.units import milliseconds, size
from ...metrics.metric import Metric
from ...metrics.word_errors import is_detail
from ...results.comparison import FLOAT32, CellRecord, ComparisonResult, FormatRecord
from ...results.figure_text import estimate_text, figure_of, heading, interval_text, p_text, value_text
from ...results.files import ResultFile
from ..page_model import Section, Table

Line = tuple[str, FormatRecord, CellRecord]
"""A profile in one format."""


def weights_section(comparisons: Sequence[ResultFile[ComparisonResult]]) -> Section | None:
    """Of the files that have several formats: a table per metric, and one of costs."""
    several = [file for file in comparisons if len(file.found.formats) > 1]
    if not several:
        return None
    return Section(
        "Weight formats",
        "What weights in fewer bits cost. A difference is that from float32 weights under the same profile, "
        "on the same clips and the same resamples: it is sharper than the intervals of the two.",
        tables=tuple(table for file in several for table in _tables(file)),
        notes=tuple(
            f"Peak memory of {file.name}: {file.found.memory}." for file in several if file.found.memory
        ),
    )


def _tables(file: ResultFile[ComparisonResult]) -> Iterator[Table]:
    found = file.found
    lines = list(_lines(found))
    for metric in found.metrics:
        if not is_detail(metric) and figure_of(metric, found.full.figures).estimate is not None:
            yield _accuracy(file, metric, lines)
    rows = tuple(_costs(*line) for line in lines)
    columns = ("profile", "weights", "prefill ms", "step ms", "weights, bytes", "peak memory")
    yield Table(columns, rows, f"Times are medians over the clips of {file.name}", texts=2)


def _lines(found: ComparisonResult) -> Iterator[Line]:
    """The formats of a profile stand below each other."""
    lines = [
        (f"{found.name_of(row)}, {cell.percent:g} %", row.quantized, cell)
        for row in found.rows
        for cell in row.cells
        if cell.figures and not row.is_full
    ]
    fulls = ((each.quantized, found.full_in(each.quantized)) for each in found.formats)
    lines = [*((FULL_MODEL, quantized, cell) for quantized, cell in fulls if cell is not None), *lines]
    by_format = {each.quantized: each for each in found.formats}
    for name in dict.fromkeys(name for name, _, _ in lines):
        for own, quantized, cell in lines:
            if own == name and quantized in by_format:
                yield name, by_format[quantized], cell


def _accuracy(file: ResultFile[ComparisonResult], metric: Metric, lines: Sequence[Line]) -> Table:
    rows = tuple(
        (
            name,
            record.name,
            estimate_text(metric, figure_of(metric, cell.figures)),
            *_difference(metric, cell),
        )
        for name, record, cell in lines
    )
    columns = ("profile", "weights", f"{heading(metric)} (95 %)", f"less {FLOAT32} (95 %)", "p")
    caption = f"{metric.title}, {metric.better}, {file.found.task}, {file.name}"
    return Table(columns, rows, caption, texts=2)


def _difference(metric: Metric, cell: CellRecord) -> tuple[str, str]:
    if (found := cell.from_float32.get(metric.name)) is None:
        return "", ""
    change = found.times(metric.scale)
    return f"{value_text(metric, change.value, '+')} ({interval_text(metric, change, '+')})", p_text(change)


def _costs(name: str, record: FormatRecord, cell: CellRecord) -> tuple[str, ...]:
    times = milliseconds(cell.prefill_ms), milliseconds(cell.step_ms)
    return name, record.name, *times, size(record.weight_bytes), size(cell.peak_bytes)
