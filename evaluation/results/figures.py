"""A figure in a result file: its value, its 95 % interval, and its paired difference from the first one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import stdev
from typing import Self


@dataclass(frozen=True)
class Estimate:
    """A value and the ends of its interval, which are None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None

    def times(self, factor: float) -> Self:
        """In another unit."""
        low, high = _times(self.low, factor), _times(self.high, factor)
        return replace(self, value=self.value * factor, low=low, high=high)


@dataclass(frozen=True)
class Difference(Estimate):
    """A figure less that of the full model, or of the first profile, over the same resamples."""

    p_value: float | None = None  # two-sided, of no difference


@dataclass(frozen=True)
class Measured:
    """One metric of one thing, in the unit of the metric; what could not be computed is None."""

    value: float | None
    low: float | None = None
    high: float | None = None
    delta: Difference | None = None  # None for what the others are compared with
    seeds: tuple[float | None, ...] = ()  # of a comparison: the value under each seed
    reason: str | None = None  # why there is no value

    @property
    def estimate(self) -> Estimate | None:
        """Value and interval, if there is a value."""
        return None if self.value is None else Estimate(self.value, self.low, self.high)

    @property
    def spread(self) -> float | None:
        """The standard deviation over the seeds, where there are several."""
        values = [value for value in self.seeds if value is not None]
        return stdev(values) if len(values) > 1 else None

    def times(self, factor: float) -> Measured:
        """In another unit."""
        return replace(
            self,
            value=_times(self.value, factor),
            low=_times(self.low, factor),
            high=_times(self.high, factor),
            delta=None if self.delta is None else self.delta.times(factor),
            seeds=tuple(_times(seed, factor) for seed in self.seeds),
        )


@dataclass(frozen=True)
class ProfileFigures:
    """One profile of an artifact. Where no clip is measured there are no figures."""

    profile: str
    figures: Mapping[str, Measured]  # by the name of the metric
    kept_ratio: float | None  # of the audio rows, mean over the clips
    flops_reduction: float | None  # share of the prefill's at their mean length; None where the data decides
    cut_off: int  # answers that max_new_tokens ended


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
