"""A metric over clips: its value, and what each clip adds to it, so that a bootstrap is sums of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Unit = Literal["share", "points", "score"]
"""A share of 1, which people read in percent; points of 100, as BLEU has them; a plain number."""
SHARE: Final = "share"
POINTS: Final = "points"
SCORE: Final = "score"


@dataclass(frozen=True)
class Metric:
    """What is measured."""

    name: str  # in result files
    title: str  # for people
    unit: Unit = SHARE
    lower_is_better: bool = False
    made_by: str = ""  # the code that computes it, with its settings

    @property
    def scale(self) -> float:
        """What people read is a value times this."""
        return 100.0 if self.unit == SHARE else 1.0

    @property
    def sign(self) -> str:
        """What stands behind a value as people read it."""
        return "%" if self.unit == SHARE else ""

    @property
    def decimals(self) -> int:
        """Of a value as people read it."""
        return 3 if self.unit == SCORE else 2

    @property
    def better(self) -> str:
        """In which direction."""
        return f"{'lower' if self.lower_is_better else 'higher'} is better"


@dataclass(frozen=True)
class Sample:
    """One metric of one profile.

    `statistics` (clips, k) are additive: `of_sums` of their sum over the clips is `value`, and of their sum
    over resampled recordings the value of that resample. Where there is no value, `reason` says why.
    """

    metric: Metric
    value: float | None  # as the library of the metric gives it for all clips
    statistics: Floats | None = None  # (clips, k)
    of_sums: Callable[[Floats], Floats] | None = None  # (…, k) -> (…); not a number where it is undefined
    reason: str = ""


Measure = Callable[[Sequence[str], Sequence[Sequence[str]]], tuple[Sample, ...]]
"""Hypotheses and the accepted references of each -> the samples of all metrics of a task."""


def mean_sample(metric: Metric, values: Sequence[float]) -> Sample:
    """A metric that is the mean of a value of each clip."""
    statistics = np.column_stack([np.asarray(values, np.float64), np.ones(len(values))])
    return Sample(metric, float(np.mean(values)) if len(values) else None, statistics, ratio)


EMPTY_REFERENCE = (
    "a reference is empty once it is normalised, as one in brackets is; mend it, or take the normaliser none"
)


def empty_reference(references: Sequence[Sequence[str]]) -> str:
    """Why whole texts cannot be compared: a clip has none that an answer can equal. Empty where they can."""
    return "" if all(any(texts) for texts in references) else EMPTY_REFERENCE


def ratio(sums: Floats) -> Floats:
    """First sum / second sum; (…, 2) -> (…)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = np.where(sums[..., 1] > 0, sums[..., 0] / sums[..., 1], np.nan)
    return found
