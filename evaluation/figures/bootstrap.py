"""Bootstrap over recordings: 95 % intervals of a figure, and of the difference between two profiles.

Efron and Tibshirani, An Introduction to the Bootstrap, chapters 13 (percentile intervals) and 16 (tests).
Clips of one recording, as several questions about it are, say much the same, so they are drawn together
(Davison and Hinkley, Bootstrap Methods and their Application, section 3.8). One seed draws the same
recordings for every figure, so that profiles are compared on the same resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...runtime.choice.acceptance import LEAST_RECORDINGS
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


def resampled(sample: Sample, recordings: Sequence[str], bootstrap: Bootstrap) -> Floats | None:
    """The figure of each resample, from the recording that each clip is of: (resamples,).

    None where there is no value, or there are too few recordings to draw.

    Raises:
        ValueError: there are more or fewer of them than clips.
    """
    if sample.statistics is not None and len(recordings) != len(sample.statistics):
        raise ValueError(f"{len(recordings)} names of recordings for {len(sample.statistics)} clips")
    if sample.statistics is None or sample.of_sums is None or len(set(recordings)) < LEAST_RECORDINGS:
        return None
    return sample.of_sums(resampled_sums(by_recording(sample.statistics, recordings), bootstrap))


def by_recording(statistics: Floats, recordings: Sequence[str]) -> Floats:
    """The sums over the clips of each recording, in the order of the first of them: (clips, k) -> (r, k)."""
    places = {recording: i for i, recording in enumerate(dict.fromkeys(recordings))}
    sums = np.zeros((len(places), *statistics.shape[1:]))
    np.add.at(sums, [places[recording] for recording in recordings], statistics)
    return sums


def resampled_sums(statistics: Floats, bootstrap: Bootstrap) -> Floats:
    """Sums over as many rows as there are, drawn with replacement: (recordings, k) -> (resamples, k)."""
    resamples = bootstrap.resamples
    generator, recordings = np.random.default_rng(bootstrap.seed), len(statistics)
    rows = max(1, BLOCK // recordings)
    sums = [
        _counts(generator, min(rows, resamples - start), recordings) @ statistics
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


def _counts(generator: np.random.Generator, rows: int, recordings: int) -> Floats:
    """How often each recording is drawn: (rows, recordings)."""
    size = rows, recordings
    drawn = generator.integers(recordings, size=size) + np.arange(rows)[:, None] * recordings
    return np.bincount(drawn.ravel(), minlength=rows * recordings).reshape(size).astype(np.float64)
