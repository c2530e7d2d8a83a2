"""Accuracy against FLOPs and against latency: one line per method, the full model as reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ....runtime.tables.units import ABSENT, milliseconds
from ..files.comparison import Cell, Comparison, Row
from ..files.records import Metric
from ..page_model import Plot, PlotlyFigure, Section, Swatch, Table
from ..plotly_parts import axis, bars, faint, hover, log_axis, plotly_figure, reference
from ..series_style import NEUTRAL, Style, line_drawing
from ..shown import clips_text, estimate_text, interval_text

LOG_FROM = 8.0  # times between the smallest and the largest value
FULL = "full model"
FULL_SERIES = "full"
Where = Callable[[Cell], float | None]
"""The place of a cell on the x axis, if it has one."""


def accuracy_section(comparisons: Sequence[Comparison], styles: Mapping[str, Style]) -> Section | None:
    """Each metric of each file over the FLOPs that are saved."""
    plots = tuple(
        _accuracy_plot(comparison, metric, styles)
        for comparison in comparisons
        for metric in comparison.metrics
        if comparison.full.figure(metric).estimate is not None
    )
    if not plots:
        return None
    return Section(
        "Accuracy and FLOPs",
        "What each method costs in accuracy for the share of the prefill FLOPs that it really removes.",
        legend(styles),
        plots,
        notes=tuple(_unmet(comparisons)),
    )


def latency_section(comparisons: Sequence[Comparison], styles: Mapping[str, Style]) -> Section | None:
    """The first metric of each file over prefill and decode time, where times were measured."""
    plots = tuple(
        _latency_plot(comparison, comparison.metrics[0], styles)
        for comparison in comparisons
        if comparison.metrics and _has_latency(comparison)
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
    full = Swatch(FULL, FULL_SERIES, line_drawing(NEUTRAL, "dash"))
    return (*(Swatch(label, series(label), style.drawing) for label, style in styles.items()), full)


def series(label: str) -> str:
    """The name by which the traces of a method are hidden together."""
    return f"method {label}"


def _context(comparison: Comparison) -> str:
    positions = f"positions {comparison.positions}" if comparison.positions else ""
    parts = comparison.task, clips_text(comparison.clips), positions, comparison.source.name
    return ", ".join(part for part in parts if part)


def _title(comparison: Comparison, metric: Metric) -> str:
    return f"{metric.heading}, {comparison.part}" if comparison.part else metric.heading


def _has_latency(comparison: Comparison) -> bool:
    cells = (cell for row in comparison.rows for cell in row.cells)
    metric = comparison.metrics[0]
    return any(cell.latency_ms is not None and cell.figure(metric).estimate for cell in cells)


def _accuracy_plot(comparison: Comparison, metric: Metric, styles: Mapping[str, Style]) -> Plot:
    places = [cell.at for row in comparison.rows for cell in row.cells if cell.figure(metric).estimate]
    x = axis("FLOPs removed from the prefill, %", range=[-1.5, max((*places, 10.0)) + 2.5], dtick=10)
    figure = _figure(comparison, metric, styles, lambda cell: cell.at, x)
    alt = f"{metric.title} of {len(comparison.rows)} methods over the FLOPs that they remove"
    note = f"{metric.better}{_scale_note(figure)}"
    return Plot(
        _title(comparison, metric), _context(comparison), alt, figure, _table(comparison, metric), note
    )


def _latency_plot(comparison: Comparison, metric: Metric, styles: Mapping[str, Style]) -> Plot:
    x = axis("prefill + decode, ms", rangemode="normal")
    figure = _figure(comparison, metric, styles, lambda cell: cell.latency_ms, x)
    alt = f"{metric.title} of {len(comparison.rows)} methods over prefill and decode time"
    note = f"{metric.better}{_scale_note(figure)}"
    return Plot(
        _title(comparison, metric),
        _context(comparison),
        alt,
        figure,
        _latency_table(comparison, metric),
        note,
    )


def _figure(
    comparison: Comparison, metric: Metric, styles: Mapping[str, Style], where: Where, x: dict[str, Any]
) -> PlotlyFigure:
    traces = [
        trace
        for row in comparison.rows
        if (trace := _line(row, metric, styles[row.label], where)) is not None
    ]
    full = comparison.full.figure(metric).estimate
    shapes = []
    if full is not None:
        traces.append(_full_point(comparison, metric, where))
        shapes.append(reference("y", full.value))
    return plotly_figure(traces, x, _y_axis(comparison, metric), shapes=shapes)


def _line(row: Row, metric: Metric, style: Style, where: Where) -> dict[str, Any] | None:
    found = [
        (place, measured, cell)
        for cell in row.cells
        if (measured := cell.figure(metric)).estimate and (place := where(cell)) is not None
    ]
    if not found:
        return None
    estimates = [measured.estimate for _, measured, _ in found if measured.estimate]
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


def _full_point(comparison: Comparison, metric: Metric, where: Where) -> dict[str, Any]:
    full, estimate = comparison.full, comparison.full.figure(metric).estimate
    assert estimate is not None
    place = where(full)
    return {
        "type": "scatter",
        "mode": "markers",
        "legendgroup": FULL_SERIES,
        "x": [] if place is None else [place],
        "y": [] if place is None else [estimate.value],
        "error_y": bars([] if place is None else [estimate], NEUTRAL),
        "marker": {"color": NEUTRAL, "symbol": "star", "size": 10},
        "hoverinfo": "text",
        "hovertext": [_hover(FULL, full, metric)],
    }


def _y_axis(comparison: Comparison, metric: Metric) -> dict[str, Any]:
    """Logarithmic where linear steps would hide what the good methods do."""
    cells = (comparison.full, *(cell for row in comparison.rows for cell in row.cells))
    found = [estimate for cell in cells if (estimate := cell.figure(metric).estimate)]
    low, high = min(one.value for one in found), max(one.value for one in found)
    return log_axis(low, high) if low > 0 and high > LOG_FROM * low else axis()


def _scale_note(figure: PlotlyFigure) -> str:
    return "; logarithmic scale" if figure["layout"]["yaxis"].get("type") == "log" else ""


def _hover(label: str, cell: Cell, metric: Metric) -> str:
    measured = cell.figure(metric)
    latency = cell.latency_ms
    return hover(
        label if label == FULL else f"{label}, {cell.level:g} %",
        f"{metric.title} {estimate_text(metric, measured)}",
        "" if cell.flops_percent is None else f"removes {cell.flops_percent:.1f} % of the FLOPs",
        "" if latency is None else f"prefill + decode {milliseconds(latency)} ms",
        f"mean of {len(measured.seeds)} seeds" if len(measured.seeds) > 1 else "",
    )


def _levels(comparison: Comparison) -> list[float]:
    return sorted({cell.level for row in comparison.rows for cell in row.cells})


def _table(comparison: Comparison, metric: Metric) -> Table:
    levels = _levels(comparison)
    full = estimate_text(metric, comparison.full.figure(metric))
    rows = [(FULL, full, *[""] * len(levels))]
    for row in comparison.rows:
        cells = {cell.level: estimate_text(metric, cell.figure(metric)) for cell in row.cells}
        rows.append((row.label, "", *(cells.get(level, ABSENT) for level in levels)))
    columns = ("method", *(f"{level:g} %" for level in (0, *levels)))
    return Table(columns, tuple(rows), f"{metric.heading} at levels of FLOPs reduction, with 95 % intervals")


def _latency_table(comparison: Comparison, metric: Metric) -> Table:
    rows = [(FULL, "", *_latency_cells(comparison.full, metric))]
    for row in comparison.rows:
        rows += [(row.label, f"{cell.level:g} %", *_latency_cells(cell, metric)) for cell in row.cells]
    columns = ("method", "level", "prefill ms", "decode ms", metric.heading, "95 %")
    return Table(columns, tuple(rows), "Times are medians over the clips")


def _latency_cells(cell: Cell, metric: Metric) -> tuple[str, ...]:
    measured = cell.figure(metric)
    value = ABSENT if measured.estimate is None else f"{measured.estimate.value:.{metric.decimals}f}"
    interval = interval_text(metric, measured.estimate)
    return milliseconds(cell.prefill_ms), milliseconds(cell.decode_ms), value, interval


def _unmet(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Why cells are not where their level says; levels with the same reason share a line."""
    for comparison in comparisons:
        for row in comparison.rows:
            reasons: dict[str, list[str]] = {}
            for cell in row.cells:
                if cell.unmet:
                    reasons.setdefault(cell.unmet, []).append(f"{cell.level:g} %")
            for reason, levels in reasons.items():
                yield f"{row.label} at {', '.join(levels)}: {reason} ({comparison.source.name})"
