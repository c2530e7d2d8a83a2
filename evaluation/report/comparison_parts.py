"""A comparison as its plots show it: rows whose colours can be told apart, each of rising levels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ..results.comparison import ComparisonResult, RowRecord
from ..results.files import ResultFile


@dataclass(frozen=True)
class ComparisonPart:
    """Some rows of a file."""

    file: ResultFile[ComparisonResult]
    rows: tuple[RowRecord, ...]
    schedule: str = ""  # of all rows, whose labels do not name it; empty where they differ in it

    @property
    def found(self) -> ComparisonResult:
        """The whole comparison."""
        return self.file.found


def comparison_parts(files: Sequence[ResultFile[ComparisonResult]], most: int) -> tuple[ComparisonPart, ...]:
    """One for each schedule of a file, whose labels name the method alone.

    Up to `most` rows of several schedules stay together.
    """
    return tuple(part for file in files for part in _parts(file, most))


def sorted_rows(found: ComparisonResult) -> tuple[RowRecord, ...]:
    """The rows with their cells in the order of the levels."""
    return tuple(
        replace(row, cells=tuple(sorted(row.cells, key=lambda cell: cell.level))) for row in found.rows
    )


def _parts(file: ResultFile[ComparisonResult], most: int) -> Iterator[ComparisonPart]:
    rows = sorted_rows(file.found)
    schedules = dict.fromkeys(row.schedule for row in rows)
    if len(schedules) > 1 and len(rows) <= most:
        yield ComparisonPart(file, rows)
        return
    for schedule in schedules:
        own = (row for row in rows if row.schedule == schedule)
        named = tuple(replace(row, label=row.label.removesuffix(f", {schedule}")) for row in own)
        yield ComparisonPart(file, named, schedule)
