"""How many audio rows each layer holds: a plot for each course of reduction, a step line for each level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....runtime.tables.units import ABSENT
from ...results.comparison import ComparisonResult, RowRecord
from ...results.files import ResultFile
from ..comparison_parts import sorted_rows
from ..page_model import Plot, Section, Table
from ..plotly_parts import axis, hover, plotly_figure, safe
from ..series_style import NEUTRAL, PLAIN

CLOSEST = 0.075  # of two labels at the end of lines, in shares of the height
Course = tuple[tuple[float, tuple[float, ...]], ...]
"""Rows of each layer by level: what methods of one schedule have in common."""


def layer_rows_section(comparisons: Sequence[ResultFile[ComparisonResult]]) -> Section | None:
    """Of each file; methods that keep the same rows share a plot."""
    plots = tuple(
        _plot(comparison, course, _names(comparison.found, rows))
        for comparison in comparisons
        for course, rows in _courses(comparison.found).items()
    )
    if not plots:
        return None
    return Section(
        "Audio rows in each layer",
        "Rows of audio in the cache of each layer, means over the clips: what attention reads and memory "
        "holds. A line for each level of FLOPs reduction; the dashed line is the full model.",
        plots=plots,
    )


def _courses(comparison: ComparisonResult) -> dict[Course, list[RowRecord]]:
    found: dict[Course, list[RowRecord]] = {}
    for row in sorted_rows(row for row in comparison.rows if not row.is_full):
        if course := tuple((cell.percent, cell.layer_rows) for cell in row.cells if cell.layer_rows):
            found.setdefault(course, []).append(row)
    return found


def _names(comparison: ComparisonResult, rows: Sequence[RowRecord]) -> list[str]:
    """Those of rows of one course, which name the format only where other formats keep other rows."""
    names = [comparison.name_of(row) for row in rows]
    labels = (
        name if names.count(name) == len(comparison.formats) else row.label
        for name, row in zip(names, rows, strict=True)
    )
    return list(dict.fromkeys(labels))


def _plot(comparison: ResultFile[ComparisonResult], course: Course, labels: Sequence[str]) -> Plot:
    full, name = comparison.found.full.layer_rows, " · ".join(labels)
    traces = [_steps("full", full, NEUTRAL, "dash")] if full else []
    traces += [_steps(f"{level:g} %", rows, PLAIN, "solid") for level, rows in course]
    layers = max(len(rows) for rows in (full, *(rows for _, rows in course)))
    top = max(max(rows) for rows in (full or (0.0,), *(rows for _, rows in course)))
    figure = plotly_figure(
        traces,
        axis("layer", range=[-0.2, layers + 0.1], tickvals=list(range(0, layers, max(1, round(layers / 8))))),
        axis(range=[0, 1.06 * top], nticks=6),
        annotations=_labels([("full", full), *((f"{level:g} %", rows) for level, rows in course)], top),
        margin={"l": 8, "r": 44, "t": 10, "b": 8},
    )
    at = ", ".join(f"{level:g} %" for level, _ in course)
    alt = f"Audio rows in each of {layers} layers under {name}, at {at} less FLOPs"
    return Plot(name, comparison.name, alt, figure, _table(full, course, layers))


def _steps(label: str, rows: Sequence[float], colour: str, dash: str) -> dict[str, Any]:
    """A line that holds from each layer to the next one."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": list(range(len(rows) + 1)),
        "y": [*rows, rows[-1]],
        "line": {"color": colour, "dash": dash, "width": 1.8, "shape": "hv"},
        "hoverinfo": "text",
        "hovertext": [
            hover(f"{label}, layer {i}", f"{count:.1f} audio rows") for i, count in enumerate(rows)
        ],
    }


def _labels(lines: Sequence[tuple[str, Sequence[float]]], top: float) -> list[dict[str, Any]]:
    """The names of the lines where they end, moved apart where they would touch."""
    ends = sorted((rows[-1], label) for label, rows in lines if rows)
    places: list[float] = []
    for end, _ in ends:
        places.append(max(end, places[-1] + CLOSEST * top) if places else end)
    excess = max(0.0, places[-1] - 1.03 * top)
    return [
        {
            **{"x": 1, "xref": "paper", "xanchor": "left", "xshift": 4, "y": place - excess, "yref": "y"},
            **{"text": safe(label), "showarrow": False, "font": {"size": 11}},
        }
        for place, (_, label) in zip(places, ends, strict=True)
    ]


def _table(full: Sequence[float], course: Course, layers: int) -> Table:
    lines = [("full", full)] if full else []
    lines += [(f"{level:g} %", rows) for level, rows in course]
    rows = tuple(
        (str(layer), *(f"{counts[layer]:.1f}" if layer < len(counts) else ABSENT for _, counts in lines))
        for layer in range(layers)
    )
    return Table(("layer", *(label for label, _ in lines)), rows, "Audio rows, means over the clips")
