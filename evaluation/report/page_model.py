"""What a page consists of: sections of words, plots and tables. All of it is data; the template draws it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PlotlyFigure = dict[str, Any]
"""`data` and `layout`, as Plotly takes them."""


@dataclass(frozen=True)
class Table:
    """Cells of text. The first column names the rows; the first `texts` columns align left, numbers right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str
    texts: int = 1


@dataclass(frozen=True)
class Swatch:
    """A line of a legend: how a series is drawn, as the inside of an SVG of 36 by 16."""

    label: str
    series: str  # the `legendgroup` of its traces; empty where it cannot be hidden
    drawing: str  # SVG of ours, no text of a file


@dataclass(frozen=True)
class Plot:
    """A figure under its title, with what it shows in words and as a table."""

    title: str
    context: str  # of which clips and from which file
    alt: str
    figure: PlotlyFigure
    table: Table
    note: str = ""


@dataclass(frozen=True)
class Facts:
    """Names with values, below a title; `command` is a line to type, word by word."""

    title: str
    entries: tuple[tuple[str, str], ...]
    command: tuple[str, ...] = ()
    groups: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()  # folded away, each under its name


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    intro: str = ""
    legend: tuple[Swatch, ...] = ()
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    facts: tuple[Facts, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def anchor(self) -> str:
        """Of links to it."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())
