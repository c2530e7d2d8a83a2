"""Mean and variance of every channel over rows that come in batches: moments that add up.

Batches are joined by the update of Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for
Computing Sample Variances" (1979), of which Welford's is the case of one row. All of it is float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and squared deviations of some rows; `a + b` are those of the rows of both."""

    count: int  # rows
    mean: Floats  # (channels,)
    squares: Floats  # (channels,), the sum of squared deviations from `mean`

    @classmethod
    def none(cls, channels: int) -> Moments:
        """Of no rows at all: where a sum begins."""
        return cls(0, np.zeros(channels), np.zeros(channels))

    @classmethod
    def of(cls, rows: npt.NDArray[Any]) -> Moments:
        """Of one batch (rows, channels). A channel that is constant deviates by exactly 0."""
        if not len(rows):
            return cls.none(rows.shape[1])
        values = np.asarray(rows, np.float64)
        mean = _mean(values, np.ones(len(values)))
        return cls(len(values), mean, ((values - mean) ** 2).sum(axis=0))

    def __add__(self, other: Moments) -> Moments:
        """Of the rows of both."""
        count = self.count + other.count
        if not count:
            return self
        step, share = other.mean - self.mean, other.count / count
        return Moments(
            count,
            self.mean + share * step,
            self.squares + other.squares + self.count * share * step**2,
        )

    @property
    def variance(self) -> Floats:
        """Mean squared deviation, the estimate of greatest likelihood: (channels,)."""
        return self.squares / self.count


def pooled_variance(parts: Sequence[Moments], times: Counts) -> Floats:
    """The variance where each part counts several times, as in a resample: (draws, channels).

    Args:
        parts: moments with at least one row each.
        times: (draws, parts), how often each part is taken; at least one of them in every draw.
    """
    means, squares = np.stack([part.mean for part in parts]), np.stack([part.squares for part in parts])
    counts = np.array([part.count for part in parts], np.float64)
    weights = times * counts  # (draws, parts), rows
    rows = weights.sum(axis=1, keepdims=True)
    offsets = means - _mean(means, counts)  # small numbers, so that little cancels below
    between = weights @ offsets**2 - (weights @ offsets) ** 2 / rows
    variance: Floats = (times @ squares + np.maximum(between, 0.0)) / rows
    return variance


def _mean(values: Floats, weights: Floats) -> Floats:
    """Weighted mean over the first axis, exact where all values are the same."""
    mean: Floats = values[0] + weights @ (values - values[0]) / weights.sum()
    return mean
