"""Which seconds each row of each layer stands for: bars below the waveform of a clip, a line a layer."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from ....runtime.alignment.row_map import LayerRows
from ...results.files import ResultFile
from ...results.row_map import RowMapResult
from ..page_model import Plot, Section, Swatch, Table
from ..plotly_parts import CLEAR, axis, hover, plotly_figure
from ..series_style import COLOURS, NEUTRAL, block_drawing

CLASSES = ((1, "as it was", "#a9b0b8"), (3, "2 or 3 rows in one", COLOURS[0]), (0, "more", COLOURS[1]))
"""The most rows that one stands for, 0 being any number; how the legend calls it; its colour."""
MOST_BARS = 3000  # drawn one by one; beyond that, rows that are as they were are drawn together
SHADES = 1.0, 0.65  # opacities in turn: at one pixel a dot no gap that leaves a short bar visible is
WAVE = 90  # pixels
LINE, LEAST_LINE, LINES = 15, 5, 560  # pixels of a line, if all of them are no more than the last


@dataclass(frozen=True)
class Bar:
    """A row, or several of the first class."""

    start: float
    end: float
    rows: int  # audio tokens that it stands for
    drawn: int = 1  # rows that it is drawn for


def row_maps_section(maps: Sequence[ResultFile[RowMapResult]]) -> Section | None:
    """A plot for each answer."""
    if not maps:
        return None
    return Section(
        "Where rows stand",
        "What each layer keeps of a clip for the steps: a bar for each row, over the seconds of audio that "
        "it stands for, below the waveform, in two shades by turns. Audio tokens that merge become "
        "one longer bar; a gap is audio whose rows were dropped.",
        tuple(Swatch(name, "", block_drawing(colour)) for _, name, colour in CLASSES),
        tuple(map(_plot, maps)),
    )


def _plot(file: ResultFile[RowMapResult]) -> Plot:
    found, lines = file.found, [_bars(rows, file.found.boundaries) for rows in file.found.layers]
    if sum(map(len, lines)) > MOST_BARS:
        lines = [_together(line) for line in lines]
    height = max(LEAST_LINE, min(LINE, LINES // len(lines)))
    whole = WAVE + height * len(lines) + 60
    share = WAVE / (whole - 60)
    figure = plotly_figure(
        [*_wave(found), _rows(found, lines)],
        axis("s", range=[0, found.audio_seconds], nticks=8, anchor="y"),
        _layers_axis(found, share),
        whole,
        yaxis2=axis(domain=[1 - share + 0.02, 1], range=[-1, 1], visible=False),
        bargap=0,
    )
    alt = f"Rows of {len(lines)} layers over {found.audio_seconds:.1f} s of audio under {found.profile}"
    said = f": {found.text}" if found.text else ""
    return Plot(f"{found.clip}, {found.profile}", f"{file.name}{said}", alt, figure, _table(found))


def _layers_axis(found: RowMapResult, share: float) -> dict[str, Any]:
    count = len(found.layers)
    shown = range(0, count, max(1, -(-count // 16)))
    return axis(
        "layer",
        domain=[0, 1 - share],
        range=[count - 0.5, -0.5],
        tickvals=list(shown),
        ticktext=[name_of(found.layers[i]) for i in shown],
        gridcolor=CLEAR,
        ticks="",
    )


def name_of(rows: LayerRows) -> str:
    """The layer, and the KV head where each has rows of its own."""
    return str(rows.layer) if rows.head is None else f"{rows.layer}, head {rows.head}"


def _bars(rows: LayerRows, boundaries: Sequence[float]) -> list[Bar]:
    def count(start: float, end: float) -> int:
        return max(1, bisect_left(boundaries, end) - bisect_left(boundaries, start))

    return [Bar(start, end, count(start, end)) for start, end in zip(rows.starts, rows.ends, strict=True)]


def _together(bars: Sequence[Bar]) -> list[Bar]:
    """With one bar for each run of rows that stand for themselves alone."""
    found: list[Bar] = []
    for bar in bars:
        last = found[-1] if found else None
        if last and last.rows == bar.rows == 1 and last.end == bar.start:
            found[-1] = Bar(last.start, bar.end, 1, last.drawn + 1)
        else:
            found.append(bar)
    return found


def _wave(found: RowMapResult) -> list[dict[str, Any]]:
    """Both halves of the waveform."""
    step = found.audio_seconds / len(found.levels)
    places = [(i + 0.5) * step for i in range(len(found.levels))]
    return [
        {
            **{
                "type": "scatter",
                "mode": "lines",
                "x": places,
                "y": [sign * level for level in found.levels],
            },
            **{"yaxis": "y2", "fill": "tozeroy", "fillcolor": NEUTRAL, "hoverinfo": "skip"},
            "line": {"color": NEUTRAL, "width": 1},
        }
        for sign in (1, -1)
    ]


def _rows(found: RowMapResult, lines: Sequence[Sequence[Bar]]) -> dict[str, Any]:
    bars = [(line, bar) for line, of_line in enumerate(lines) for bar in of_line]
    shades = [shade for line in lines for _, shade in zip(line, cycle(SHADES), strict=False)]
    return {
        **{"type": "bar", "orientation": "h", "width": 0.8},
        "base": [bar.start for _, bar in bars],
        "x": [bar.end - bar.start for _, bar in bars],
        "y": [line for line, _ in bars],
        "marker": {"color": [_colour(bar) for _, bar in bars], "opacity": shades, "line": {"width": 0}},
        "hoverinfo": "text",
        "hovertext": [_hover(found.layers[line], bar) for line, bar in bars],
    }


def _colour(bar: Bar) -> str:
    return next(colour for most, _, colour in CLASSES if not most or bar.rows <= most)


def _hover(rows: LayerRows, bar: Bar) -> str:
    seconds = f"{bar.start:.2f} to {bar.end:.2f} s"
    several = (
        f"{bar.drawn} rows as they were" if bar.drawn > 1 else f"{bar.rows} in one" if bar.rows > 1 else ""
    )
    return hover(f"layer {name_of(rows)}", seconds, several)


def _table(found: RowMapResult) -> Table:
    rows = tuple(_line(each, found) for each in found.layers)
    columns = ("layer", "rows", "longest row, s", "dropped, s")
    return Table(columns, rows, "Rows that each layer keeps, the longest of them, and audio without a row")


def _line(rows: LayerRows, found: RowMapResult) -> tuple[str, ...]:
    lengths = [end - start for start, end in zip(rows.starts, rows.ends, strict=True)]
    whole = found.boundaries[-1] - found.boundaries[0]
    return (
        name_of(rows),
        str(len(lengths)),
        f"{max(lengths, default=0):.2f}",
        f"{abs(whole - sum(lengths)):.2f}",
    )
