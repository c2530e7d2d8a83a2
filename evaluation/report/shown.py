"""Numbers as people read them: what is absent is a dash, as in the tables of a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...runtime.tables.units import ABSENT
from ..metrics.metric import Metric
from ..results.figures import Estimate, Measured

LISTED = 12  # entries of a list that are shown
DEEPEST = 4  # objects within objects that are shown
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
    if found.estimate is None:
        return ABSENT
    value, interval = value_text(metric, found.estimate.value), interval_text(metric, found.estimate)
    return value if interval == ABSENT else f"{value} ({interval})"


def facts(content: Mapping[str, Any], prefix: str = "", depth: int = DEEPEST) -> Iterator[tuple[str, str]]:
    """The entries of an object as names and text; those of inner objects as `outer.inner`."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            if depth:
                yield from facts(value, f"{prefix}{name}.", depth - 1)
        elif value is not None and value not in ("", []):
            yield f"{prefix}{name}".replace("_", " "), fact(value)


def fact(value: Any) -> str:
    """One value."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return "…"
    if isinstance(value, list):
        more = f" and {len(value) - LISTED} more" if len(value) > LISTED else ""
        return ", ".join("…" if isinstance(one, list) else fact(one) for one in value[:LISTED]) + more
    return str(value)


def toml_facts(profile: str) -> tuple[tuple[str, str], ...]:
    """The lines of a profile."""
    lines = (line.partition("=") for line in profile.splitlines())
    return tuple((name.strip(), value.strip()) for name, sign, value in lines if sign)


def clips_text(count: int) -> str:
    """A number of clips."""
    return f"{count} clip{'s' * (count != 1)}"
