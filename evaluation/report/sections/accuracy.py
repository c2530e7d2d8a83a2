"""Accuracy against FLOPs and against latency: one line per method, the full model as reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ....profiles.methods import FULL, FULL_MODEL
from ....runtime.tables.units import ABSENT, in_percent, milliseconds
from ...metrics.metric import Metric
from ...metrics.word_errors import is_detail
from ...results.comparison import CellRecord, RowRecord
from ...results.figure_text import (
    difference_text,
    estimate_text,
    figure_of,
    heading,
    interval_text,
    value_text,
)
from ...results.figures import Estimate
from ..comparison_parts import ComparisonPart, sorted_rows
from ..page_model import Plot, PlotlyFigure, Section, Swatch, Table
from ..plotly_parts import axis, bars, faint, hover, log_axis, plotly_figure, reference
from ..series_style import NEUTRAL, Style, line_drawing

LOG_FROM = 8.0  # times between the smallest and the largest value
Where = Callable[[CellRecord], float | None]
"""The place of a cell on the x axis, if it has one."""


def accuracy_section(parts: Sequence[ComparisonPart], styles: Mapping[str, Style]) -> Section | None:
    """Each metric of each file over the FLOPs that are saved."""
    plots = tuple(_accuracy_plot(part, metric, styles) for part, metric in _plotted(parts))
    if not plots:
        return None
    return Section(
        "Accuracy and FLOPs",
        "What each method costs in accuracy for the share of the prefill FLOPs that it really removes.",
        legend(styles),
        plots,
        tables=tuple(_differences(parts)),
        notes=tuple(_unmet(parts)),
    )


def _plotted(parts: Sequence[ComparisonPart]) -> Iterator[tuple[ComparisonPart, Metric]]:
    """What has a plot of its accuracy."""
    for part in parts:
        for metric in part.found.metrics:
            if not is_detail(metric) and figure_of(metric, part.full.figures).estimate is not None:
                yield part, metric


def latency_section(parts: Sequence[ComparisonPart], styles: Mapping[str, Style]) -> Section | None:
    """The first metric of each file over prefill and decode time, where times were measured."""
    plots = tuple(
        _latency_plot(part, part.found.metrics[0], styles)
        for part in parts
        if part.found.metrics and _has_latency(part)
    )
    if not plots:
        return None
    return Section(
        "Accuracy and latency",
        "The same figures over the time of prefill and decode, medians over the clips: further left is "
        "faster. A line joins the levels of a method, from the least to the most reduction.",
        legend(styles),
        plots,
    )


def legend(styles: Mapping[str, Style]) -> tuple[Swatch, ...]:
    """Of the methods and the full model."""
    full = Swatch(FULL_MODEL, FULL, line_drawing(NEUTRAL, "dash"))
    return (*(Swatch(label, series(label), style.drawing) for label, style in styles.items()), full)


def series(label: str) -> str:
    """The name by which the traces of a method are hidden together."""
    return f"method {label}"


def _context(part: ComparisonPart) -> str:
    found = part.found
    clips, positions = found.clips.in_words, f"positions {part.positions}"
    weights = f"{part.weights} weights, " if part.weights else ""
    return f"{found.task}, {clips}, {positions}, {weights}{part.file.name}"


def _title(part: ComparisonPart, metric: Metric) -> str:
    return f"{heading(metric)}, {part.schedule}" if part.schedule else heading(metric)


def _has_latency(part: ComparisonPart) -> bool:
    metric = part.found.metrics[0]
    return any(
        cell.latency_ms is not None and figure_of(metric, cell.figures).estimate for cell in _cells(part)
    )


def _cells(part: ComparisonPart) -> list[CellRecord]:
    return [cell for row in part.rows for cell in row.cells]


def _accuracy_plot(part: ComparisonPart, metric: Metric, styles: Mapping[str, Style]) -> Plot:
    places = [cell.achieved_percent for cell in _cells(part) if figure_of(metric, cell.figures).estimate]
    x = axis("FLOPs removed from the prefill, %", range=[-1.5, max((*places, 10.0)) + 2.5], dtick=10)
    figure = _figure(part, metric, styles, lambda cell: cell.achieved_percent, x)
    alt = f"{metric.title} of {len(part.rows)} methods over the FLOPs that they remove"
    note = f"{metric.better}{_scale_note(figure)}"
    return Plot(_title(part, metric), _context(part), alt, figure, _table(part, metric), note)


def _latency_plot(part: ComparisonPart, metric: Metric, styles: Mapping[str, Style]) -> Plot:
    x = axis("prefill + decode, ms", rangemode="normal")
    figure = _figure(part, metric, styles, lambda cell: cell.latency_ms, x)
    alt = f"{metric.title} of {len(part.rows)} methods over prefill and decode time"
    note = f"{metric.better}{_scale_note(figure)}"
    return Plot(_title(part, metric), _context(part), alt, figure, _latency_table(part, metric), note)


def _figure(
    part: ComparisonPart, metric: Metric, styles: Mapping[str, Style], where: Where, x: dict[str, Any]
) -> PlotlyFigure:
    traces = [
        trace for row in part.rows if (trace := _line(row, metric, styles[row.label], where)) is not None
    ]
    full = figure_of(metric, part.full.figures).estimate
    shapes = []
    if full is not None:
        traces.append(_full_point(part.full, metric, full, where))
        shapes.append(reference("y", full.value))
    return plotly_figure(traces, x, _y_axis(part, metric), shapes=shapes)


def _line(row: RowRecord, metric: Metric, style: Style, where: Where) -> dict[str, Any] | None:
    found = [
        (place, estimate, cell)
        for cell in row.cells
        if (estimate := figure_of(metric, cell.figures).estimate) and (place := where(cell)) is not None
    ]
    if not found:
        return None
    estimates = [estimate for _, estimate, _ in found]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "legendgroup": series(row.label),
        "x": [place for place, _, _ in found],
        "y": [estimate.value for estimate in estimates],
        "error_y": bars(estimates, faint(style.colour)),
        "line": style.line,
        "marker": style.point,
        "hoverinfo": "text",
        "hovertext": [_hover(row.label, cell, metric) for _, _, cell in found],
    }


def _full_point(full: CellRecord, metric: Metric, estimate: Estimate, where: Where) -> dict[str, Any]:
    place = where(full)
    return {
        "type": "scatter",
        "mode": "markers",
        "legendgroup": FULL,
        "x": [] if place is None else [place],
        "y": [] if place is None else [estimate.value],
        "error_y": bars([] if place is None else [estimate], NEUTRAL),
        "marker": {"color": NEUTRAL, "symbol": "star", "size": 10},
        "hoverinfo": "text",
        "hovertext": [_hover(FULL_MODEL, full, metric)],
    }


def _y_axis(part: ComparisonPart, metric: Metric) -> dict[str, Any]:
    """Logarithmic where linear steps would hide what the good methods do."""
    cells = (part.full, *_cells(part))
    found = [estimate for cell in cells if (estimate := figure_of(metric, cell.figures).estimate)]
    low, high = min(one.value for one in found), max(one.value for one in found)
    return log_axis(low, high) if low > 0 and high > LOG_FROM * low else axis()


def _scale_note(figure: PlotlyFigure) -> str:
    return "; logarithmic scale" if figure["layout"]["yaxis"].get("type") == "log" else ""


def _hover(label: str, cell: CellRecord, metric: Metric) -> str:
    measured, latency, removed = figure_of(metric, cell.figures), cell.latency_ms, cell.flops_reduction
    change, compact = measured.delta, cell.from_compact.get(metric.name)
    return hover(
        label if label == FULL_MODEL else f"{label}, {cell.percent:g} %",
        f"{metric.title} {estimate_text(metric, measured)}",
        "" if change is None else f"{difference_text(metric, change)} from the full model",
        "" if compact is None else f"{difference_text(metric, compact.times(metric.scale))} from compact",
        "" if removed is None else f"removes {100 * removed:.1f} % of the FLOPs",
        "" if latency is None else f"prefill + decode {milliseconds(latency)} ms",
        f"mean of {len(measured.seeds)} seeds" if len(measured.seeds) > 1 else "",
    )


def _table(part: ComparisonPart, metric: Metric) -> Table:
    full = estimate_text(metric, figure_of(metric, part.full.figures))
    levels, rows = _by_level(part, lambda cell: estimate_text(metric, figure_of(metric, cell.figures)))
    columns = ("method", "0 %", *levels)
    rows = [(FULL_MODEL, full, *[""] * len(levels)), *((label, "", *texts) for label, *texts in rows)]
    caption = f"{heading(metric)} at levels of FLOPs reduction, with 95 % intervals"
    return Table(columns, tuple(rows), caption)


def _differences(parts: Sequence[ComparisonPart]) -> Iterator[Table]:
    """Of each plot: every cell less the full model, over the same resamples."""
    for part, metric in _plotted(parts):
        levels, rows = _by_level(part, partial(_change, metric))
        caption = (
            f"{_title(part, metric)}: less the full model, paired, with 95 % intervals; {_context(part)}"
        )
        yield Table(("method", *levels), tuple(rows), caption)


def _change(metric: Metric, cell: CellRecord) -> str:
    change = figure_of(metric, cell.figures).delta
    return ABSENT if change is None else difference_text(metric, change)


def _by_level(
    part: ComparisonPart, shown: Callable[[CellRecord], str]
) -> tuple[list[str], list[tuple[str, ...]]]:
    """The levels, and for each row its label and a text a level."""
    levels = sorted({cell.level for cell in _cells(part)})
    rows = []
    for row in part.rows:
        cells = {cell.level: shown(cell) for cell in row.cells}
        rows.append((row.label, *(cells.get(level, ABSENT) for level in levels)))
    return [f"{in_percent(level)} %" for level in levels], rows


def _latency_table(part: ComparisonPart, metric: Metric) -> Table:
    rows = [(FULL_MODEL, "", *_latency_cells(part.full, metric))]
    for row in part.rows:
        rows += [(row.label, f"{cell.percent:g} %", *_latency_cells(cell, metric)) for cell in row.cells]
    columns = ("method", "level", "prefill ms", "decode ms", heading(metric), "95 %")
    return Table(columns, tuple(rows), "Times are medians over the clips")


def _latency_cells(cell: CellRecord, metric: Metric) -> tuple[str, ...]:
    measured = figure_of(metric, cell.figures)
    value, interval = value_text(metric, measured.value), interval_text(metric, measured.estimate)
    return milliseconds(cell.prefill_ms), milliseconds(cell.decode_ms), value, interval


def _unmet(parts: Sequence[ComparisonPart]) -> Iterator[str]:
    """Why cells are not where their level says, by labels of their file; levels of a reason share a line."""
    for name, found in {part.file.name: part.found for part in parts}.items():
        for row in sorted_rows(found.rows):
            reasons: dict[str, list[str]] = {}
            for cell in row.cells:
                if cell.unmet:
                    reasons.setdefault(cell.unmet, []).append(f"{cell.percent:g} %")
            for reason, levels in reasons.items():
                yield f"{row.label} at {', '.join(levels)}: {reason} ({name})"
