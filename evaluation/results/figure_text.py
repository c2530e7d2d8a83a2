"""Figures as people read them, on a page and in a terminal: what is absent is a dash."""

from __future__ import annotations

from collections.abc import Mapping

from ...runtime.tables.units import ABSENT
from ..metrics.metric import Metric
from .figures import Difference, Estimate, Measured

NOTHING = Measured(None)


def figure_of(metric: Metric, figures: Mapping[str, Measured]) -> Measured:
    """The figure of a metric as people read it; an empty one where it was not measured."""
    return figures.get(metric.name, NOTHING).times(metric.scale)


def heading(metric: Metric) -> str:
    """Title and unit."""
    return f"{metric.title}, {metric.sign}" if metric.sign else metric.title


def value_text(metric: Metric, value: float | None, sign: str = "") -> str:
    """A value of a metric as people read it, without its unit."""
    return ABSENT if value is None else f"{value:{sign}.{metric.decimals}f}"


def interval_text(metric: Metric, estimate: Estimate | None, sign: str = "") -> str:
    """The ends of an interval."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ABSENT
    return f"{value_text(metric, estimate.low, sign)} to {value_text(metric, estimate.high, sign)}"


def estimate_text(metric: Metric, found: Measured) -> str:
    """A value with its interval in brackets, where it has one."""
    return ABSENT if found.estimate is None else _with_interval(metric, found.estimate)


def difference_text(metric: Metric, change: Estimate) -> str:
    """A difference with its interval in brackets, where it has one."""
    return _with_interval(metric, change, "+")


def _with_interval(metric: Metric, estimate: Estimate, sign: str = "") -> str:
    value, interval = value_text(metric, estimate.value, sign), interval_text(metric, estimate, sign)
    return value if interval == ABSENT else f"{value} ({interval})"


def p_text(change: Difference) -> str:
    """Its p-value."""
    return ABSENT if change.p_value is None else f"{change.p_value:.3f}"
