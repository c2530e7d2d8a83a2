"""What result files of every kind have in common: metrics, estimates, failures, and where they come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .fields import FieldError, Fields

SCALE = {"share": 100.0}  # by unit: what people read is the value times this
PERCENT = ("share", "%")
DECIMALS = {"score": 3}


@dataclass(frozen=True)
class Metric:
    """What was measured, with its values as people read them."""

    name: str  # in the file
    title: str
    lower_is_better: bool
    unit: str = ""
    decimals: int = 2
    scale: float = 1.0

    @property
    def heading(self) -> str:
        """Title and unit."""
        return f"{self.title}, {self.unit}" if self.unit else self.title

    @property
    def better(self) -> str:
        """In which direction."""
        return f"{'lower' if self.lower_is_better else 'higher'} is better"

    def is_better(self, one: float, other: float) -> bool:
        """Whether the first of two values is."""
        return one < other if self.lower_is_better else one > other


@dataclass(frozen=True)
class Estimate:
    """A value and the interval around it, either of which may be unknown."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Measured:
    """One metric of one thing. Without an estimate `reason` may tell why."""

    estimate: Estimate | None
    delta: Estimate | None = None  # to the full model, or to the first profile
    p_value: float | None = None
    seeds: tuple[float, ...] = ()  # the value under each seed of a random method
    reason: str = ""


NOTHING = Measured(None)


@dataclass(frozen=True)
class ClipFailure:
    """A clip without an answer."""

    clip: str
    profiles: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Source:
    """A result file: what it is called, what made it, and under which settings."""

    name: str
    kind: str
    command: tuple[str, ...]  # the words of a command line that makes such a file
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)


def read_metric(fields: Fields) -> Metric:
    """A metric as `eval` or as `compare` describes it."""
    name, unit = fields.text("name"), fields.maybe(fields.text, "unit") or ""
    lower = fields.maybe(fields.flag, "lower_is_better")
    if lower is None:
        lower = fields.text("better") == "lower"
    return Metric(
        name,
        fields.maybe(fields.text, "title") or name.upper(),
        lower,
        unit="%" if unit in PERCENT else "" if unit in ("points", "score") else unit,
        decimals=DECIMALS.get(unit, 2),
        scale=SCALE.get(unit, 1.0),
    )


def read_figure(fields: Fields, metric: Metric) -> Measured:
    """A figure as `eval` writes it: values with pairs as intervals."""
    return Measured(
        _with_pair(fields, metric, "value", "interval"),
        _with_pair(fields, metric, "delta", "delta_interval"),
        fields.maybe(fields.number, "p_value"),
        reason=fields.maybe(fields.text, "reason") or "",
    )


def _with_pair(fields: Fields, metric: Metric, value: str, interval: str) -> Estimate | None:
    found, ends = fields.maybe(fields.number, value), fields.maybe(fields.numbers, interval) or ()
    if len(ends) not in (0, 2):
        raise FieldError(f"{fields.at(interval)} has {len(ends)} numbers, not 2")
    return None if found is None else scaled(metric, found, *ends)


def scaled(metric: Metric, value: float, low: float | None = None, high: float | None = None) -> Estimate:
    """As people read it."""
    ends = (None if end is None else end * metric.scale for end in (low, high))
    return Estimate(value * metric.scale, *ends)


def read_failures(fields: Fields) -> Iterator[ClipFailure]:
    """`failures` of a file, if it has any."""
    if fields.content.get("failures") is None:
        return
    for entry in fields.each("failures"):
        profiles = entry.maybe(entry.texts, "profiles") or (entry.maybe(entry.text, "profile") or "",)
        clip, reason = (entry.maybe(entry.text, name) or "" for name in ("id", "reason"))
        yield ClipFailure(clip, profiles, reason)


def mapping(fields: Fields, name: str) -> dict[str, Any]:
    """An object that is shown as it is; empty where it is absent."""
    found = fields.maybe(fields.inner, name)
    return {} if found is None else found.content
