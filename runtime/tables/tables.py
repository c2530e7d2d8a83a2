"""What all tables have in common: a title, columns of numbers, and a console that prints text as it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from .narrow import as_lines, fitting_widths

LEGEND = "RTF = request latency / audio seconds; tok/s = tokens of the hypothesis / decode latency"


@dataclass(frozen=True)
class Section:
    """A table under its title, and what its columns mean."""

    title: str
    table: Table
    legend: str = ""


def console(*, stderr: bool = False) -> Console:
    """A console that prints text as it is: a file name is no markup."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def show(screen: Console, parts: Iterable[Section | str]) -> None:
    """Print sections and lines, an empty line before each further section."""
    for i, part in enumerate(parts):
        if isinstance(part, str):
            screen.print(part)
            continue
        if i:
            screen.print()
        screen.print(part.title, style="bold")
        show_table(screen, part.table)
        if part.legend:
            screen.print(part.legend)


def show_table(screen: Console, table: Table) -> None:
    """Print a table, or where the screen is too narrow for it a figure a line: no number is ever cut."""
    widths = fitting_widths(table, screen.width)
    if widths is None:
        screen.print(*as_lines(table, screen.width), sep="\n")
        return
    for column, width in zip(table.columns, widths, strict=True):
        column.width = width
    screen.print(table)


def columns(*names: str, left: int = 1, gap: int = 2, header: bool = True) -> Table:
    """An empty table; the first `left` columns are text and fold, the others are numbers and do not."""
    table = Table(
        box=box.SIMPLE_HEAD if header else None,
        show_header=header,
        show_edge=False,
        padding=(0, gap - 1 if header else gap, 0, 0),
        pad_edge=False,
    )
    for i, name in enumerate(names):
        text = i < left
        table.add_column(name, justify="left" if text else "right", no_wrap=not text, overflow="fold")
    return table
