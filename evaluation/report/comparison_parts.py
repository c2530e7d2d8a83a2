"""A comparison as its plots show it: rows whose colours can be told apart, each of rising levels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ..results.comparison import CellRecord, ComparisonResult, FormatRecord, RowRecord, called
from ..results.files import ResultFile


@dataclass(frozen=True)
class ComparisonPart:
    """Some rows of a file, with weights of one format."""

    file: ResultFile[ComparisonResult]
    full: CellRecord  # in the format of the rows
    rows: tuple[RowRecord, ...]  # whose labels name what they differ in
    positions: str  # of all rows
    schedule: str = ""  # of all rows; empty where they differ in it
    weights: str = ""  # the format, where the file has several

    @property
    def found(self) -> ComparisonResult:
        """The whole comparison."""
        return self.file.found


def comparison_parts(files: Sequence[ResultFile[ComparisonResult]], most: int) -> tuple[ComparisonPart, ...]:
    """One for each format, kind of positions and schedule of a file, whose labels name the method alone.

    Up to `most` rows of several schedules stay together.
    """
    return tuple(
        part
        for file in files
        for record in file.found.formats
        for positions in file.found.protocol.positions
        for part in _parts(file, record, positions, most)
    )


def sorted_rows(rows: Iterable[RowRecord]) -> tuple[RowRecord, ...]:
    """The rows with their cells in the order of the levels."""
    return tuple(replace(row, cells=tuple(sorted(row.cells, key=lambda cell: cell.level))) for row in rows)


def _parts(
    file: ResultFile[ComparisonResult], record: FormatRecord, positions: str, most: int
) -> Iterator[ComparisonPart]:
    full = file.found.full_in(record.quantized)
    own = (row for row in file.found.reduced_in(record.quantized) if row.positions in (positions, ""))
    rows = sorted_rows(own)
    schedules = dict.fromkeys(row.schedule for row in rows)
    weights = record.name if len(file.found.formats) > 1 else ""
    if full is None:
        return
    if len(schedules) > 1 and len(rows) <= most:
        named = tuple(replace(row, label=called(row.method, row.schedule)) for row in rows)
        yield ComparisonPart(file, full, named, positions, "", weights)
        return
    for schedule in schedules:
        of_schedule = (row for row in rows if row.schedule == schedule)
        named = tuple(replace(row, label=called(row.method)) for row in of_schedule)
        yield ComparisonPart(file, full, named, positions, schedule, weights)
