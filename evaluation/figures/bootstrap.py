"""Bootstrap over clips: 95 % intervals of a figure, and of the difference between two profiles.

Efron and Tibshirani, An Introduction to the Bootstrap, chapters 13 (percentile intervals) and 16 (tests). One
seed draws the same clips for every figure, so that profiles are compared on the same resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...runtime.choice.acceptance import LEAST_CLIPS
from ..metrics.metric import Floats, Sample
from ..options import Bootstrap

PERCENTILES = (2.5, 97.5)
ROUNDING = 1e-12  # of two figures that are equal but for the order of their sums
BLOCK = 1 << 22  # draws at once, so that memory does not grow with the number of resamples


@dataclass(frozen=True)
class Interval:
    """The middle 95 % of a figure over the resamples."""

    low: float
    high: float


@dataclass(frozen=True)
class Delta:
    """How a profile differs from the first one, in the unit of the metric."""

    value: float
    interval: Interval | None = None
    p_value: float | None = None  # two-sided, of no difference


def resampled(sample: Sample, bootstrap: Bootstrap) -> Floats | None:
    """The figure of each resample: (resamples,). None where there is no value, or too few clips to draw."""
    if sample.statistics is None or sample.of_sums is None or len(sample.statistics) < LEAST_CLIPS:
        return None
    return sample.of_sums(resampled_sums(sample.statistics, bootstrap))


def resampled_sums(statistics: Floats, bootstrap: Bootstrap) -> Floats:
    """Sums over as many clips as there are, drawn with replacement: (clips, k) -> (resamples, k)."""
    resamples = bootstrap.resamples
    generator, clips = np.random.default_rng(bootstrap.seed), len(statistics)
    rows = max(1, BLOCK // clips)
    sums = [
        _counts(generator, min(rows, resamples - start), clips) @ statistics
        for start in range(0, resamples, rows)
    ]
    return np.concatenate(sums)


def interval(values: Floats | None) -> Interval | None:
    """The percentile interval of resampled figures; None where one of them is undefined."""
    if values is None or not np.isfinite(values).all():
        return None
    low, high = np.percentile(values, PERCENTILES).tolist()
    return Interval(low, high)


def delta(value: float, first: float, values: Floats | None, firsts: Floats | None) -> Delta:
    """The difference between a profile and the first one, from figures of the same resamples."""
    found = value - first
    differences = None if values is None or firsts is None else values - firsts
    between = interval(differences)
    if differences is None or between is None:
        return Delta(found)
    return Delta(found, between, _p_value(differences, found))


def _p_value(differences: Floats, found: float) -> float:
    """The share of resamples, moved to a mean difference of 0, that differ at least as much; never 0."""
    centred = np.abs(differences - found)
    as_far = int(np.count_nonzero(centred >= abs(found) * (1 - ROUNDING)))
    return (as_far + 1) / (len(differences) + 1)


def _counts(generator: np.random.Generator, rows: int, clips: int) -> Floats:
    """How often each clip is drawn: (rows, clips)."""
    drawn = generator.integers(clips, size=(rows, clips)) + np.arange(rows)[:, None] * clips
    return np.bincount(drawn.ravel(), minlength=rows * clips).reshape(rows, clips).astype(np.float64)
