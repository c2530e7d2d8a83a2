"""A table on a screen that is too narrow for it: a figure a line, so that none is cut."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

LEAST_TEXT = 8  # characters of a column of text that folds
LONGEST_KEPT = 24  # words with a digit up to this length are not split: a part would read as another number
INDENT = "  "


def fitting_widths(table: Table, width: int) -> list[int] | None:
    """Widths of the columns on a screen of so many characters, in which no figure is cut or split.

    None if there are none. Columns that fold share what the others leave, and the short ones go first.
    """
    columns = [[str(column.header), *map(str, column.cells)] for column in table.columns]
    whole = [max(map(_longest_line, cells)) for cells in columns]
    widths = [
        longest if column.no_wrap else max(map(_least_width, cells))
        for column, cells, longest in zip(table.columns, columns, whole, strict=True)
    ]
    gaps = table.padding[1] + (1 if table.box else 0)
    room = width - sum(widths) - gaps * (len(widths) - 1)
    if room < 0:
        return None
    growing = sorted(range(len(widths)), key=lambda i: whole[i] - widths[i])
    for place, i in enumerate(growing):
        more = min(whole[i] - widths[i], room // (len(growing) - place))
        widths[i], room = widths[i] + more, room - more
    return widths


def as_lines(table: Table, width: int) -> Iterator[Text]:
    """Each row as its first cell, and below it a line for each other cell, behind the name of its column."""
    names = [str(column.header) for column in table.columns[1:]] if table.show_header else []
    longest = max(map(cell_len, names), default=0)
    for row, cells in zip(
        table.rows, zip(*(column.cells for column in table.columns), strict=True), strict=True
    ):
        style = row.style or ""
        yield Text(str(cells[0]), style, overflow="fold")
        for i, cell in enumerate(map(str, cells[1:])):
            if cell.strip():
                yield from _entry(names[i] if names else "", cell, longest, width, str(style))


def _entry(name: str, cell: str, longest: int, width: int, style: str) -> Iterator[Text]:
    """A name and its value, on lines of their own where they do not fit on one."""
    start = f"{INDENT}{name}{' ' * (longest - cell_len(name))}{INDENT}" if name else INDENT
    lines = cell.split("\n")
    if name and cell_len(start) + max(map(_least_width, lines)) > width:
        yield Text(f"{INDENT}{name}", style, overflow="fold")
        start = INDENT * 2
    room = max(1, width - cell_len(start))
    for i, line in enumerate(part for whole in lines for part in _folded(whole, room)):
        yield Text((start if not i else " " * cell_len(start)) + line, style, overflow="fold")


def _folded(text: str, room: int) -> Iterator[str]:
    """Lines of at most so many characters where the words allow it."""
    line = ""
    for word in text.split():
        if line and cell_len(line) + 1 + cell_len(word) > room:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line


def _longest_line(cell: str) -> int:
    return max(map(cell_len, cell.split("\n")))


def _least_width(cell: str) -> int:
    """Of a cell that folds."""
    words = [cell_len(word) for word in cell.split() if any(map(str.isdigit, word))]
    kept = [length for length in words if length <= LONGEST_KEPT]
    return max([*kept, min(LEAST_TEXT, _longest_line(cell))])
