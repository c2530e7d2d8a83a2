"""Parts of Plotly figures as plain data: axes, layout, error bars, and text that is safe in a plot."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

from ..results.figures import Estimate
from .page_model import PlotlyFigure
from .series_style import NEUTRAL

INK, GRID = "#24292f", "#e3e6ea"  # on white; the style sheet has them for dark pages
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
HEIGHT = 300
BAR_HEIGHT, AXIS_HEIGHT, TICKS_HEIGHT = 34, 62, 40  # of plots that have a row a profile
LONGEST_TICK = 26
TICKS = tuple(factor * 10**power for power in range(-6, 9) for factor in (1, 2, 5))
CLEAR = "rgba(0,0,0,0)"


def plotly_figure(
    traces: Iterable[dict[str, Any]],
    x: dict[str, Any],
    y: dict[str, Any],
    height: float = HEIGHT,
    **layout: Any,
) -> PlotlyFigure:
    """A figure in the style of the page. Legends are part of the page, not of the plot."""
    traces = list(traces)
    return {
        "data": traces,
        "layout": {
            "height": height,
            "margin": {"l": 8, "r": 14, "t": 10, "b": 8},
            "font": {"family": FONT, "size": 12, "color": INK},
            "paper_bgcolor": CLEAR,
            "plot_bgcolor": CLEAR,
            "showlegend": False,
            "hovermode": "closest",
            "hoverlabel": {
                "align": "left",
                "bgcolor": INK,
                "font": {"family": FONT, "size": 12, "color": "#ffffff"},
            },
            "xaxis": _not_below_zero(x, traces, "x"),
            "yaxis": _not_below_zero(y, traces, "y"),
            **layout,
        },
    }


def _not_below_zero(settings: dict[str, Any], traces: Sequence[dict[str, Any]], key: str) -> dict[str, Any]:
    """An axis of zeros alone, which Plotly would show from -1 to 1, begins at 0."""
    errors = [trace.get(f"error_{key}", {}) for trace in traces]
    values = [
        *(value for trace in traces for value in trace.get(key, ())),
        *(value for error in errors for name in ("array", "arrayminus") for value in error.get(name, ())),
    ]
    zeros = bool(values) and all(isinstance(value, int | float) and value == 0 for value in values)
    return {**settings, "range": [0, 1]} if zeros and "range" not in settings else settings


def axis(title: str = "", **settings: Any) -> dict[str, Any]:
    """An axis with a thin grid."""
    return {
        **({"title": {"text": safe(title), "standoff": 10}} if title else {}),
        "exponentformat": "none",
        "tickangle": 0,
        "automargin": True,
        "gridcolor": GRID,
        "linecolor": GRID,
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": GRID,
        "ticklen": 4,
        **settings,
    }


def log_axis(low: float, high: float, title: str = "") -> dict[str, Any]:
    """A logarithmic axis that is labelled 1, 2, 5, 10 and so on."""
    ticks = [tick for tick in TICKS if low / 2 <= tick <= high * 2]
    ends = [
        math.log10(low / 1.5),
        math.log10(high * 1.3),
    ]  # intervals may reach down to 0, which has no place
    return axis(title, type="log", range=ends, tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])


def names_axis(names: Sequence[str]) -> dict[str, Any]:
    """Names from top to bottom, at 0, 1, … : equal and long names stay apart."""
    return axis(
        tickvals=list(range(len(names))),
        ticktext=[safe(shortened(name)) for name in names],
        range=[len(names) - 0.4, -0.6],
        gridcolor=CLEAR,
        ticks="",
    )


def bars(estimates: Sequence[Estimate], colour: str) -> dict[str, Any]:
    """Intervals of points as Plotly's error bars; those that are unknown have no length."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [0 if one.high is None else max(0.0, one.high - one.value) for one in estimates],
        "arrayminus": [0 if one.low is None else max(0.0, one.value - one.low) for one in estimates],
        "thickness": 1.3,
        "width": 3,
        "color": colour,
    }


def reference(axis: str, value: float, colour: str = NEUTRAL, dash: str = "dash") -> dict[str, Any]:
    """A line across the whole plot, at a value of the axis `x` or `y`."""
    other = "x" if axis == "y" else "y"
    ends = {f"{axis}0": value, f"{axis}1": value, f"{other}0": 0, f"{other}1": 1, f"{other}ref": "paper"}
    return {"type": "line", "layer": "below", **ends, "line": {"color": colour, "dash": dash, "width": 1.5}}


def faint(colour: str) -> str:
    """A colour that lets lines below it through."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.5)"


def safe(text: str) -> str:
    """Text that Plotly shows as it is: it reads some tags and entities."""
    return html.escape(text, quote=False)


def hover(*lines: str) -> str:
    """Lines of text beside the pointer."""
    return "<br>".join(safe(line) for line in lines if line)


def shortened(text: str) -> str:
    """A name that fits beside a plot."""
    return text if len(text) <= LONGEST_TICK else f"{text[: LONGEST_TICK - 1]}…"


def row_height(rows: int, *, titled: bool = True) -> int:
    """Of a plot with so many rows, above an axis that has a title or none."""
    return BAR_HEIGHT * rows + (AXIS_HEIGHT if titled else TICKS_HEIGHT)
