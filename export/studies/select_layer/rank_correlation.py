"""Spearman's rank correlation: whether two figures put the same things in the same order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....evaluation.metrics.metric import Floats
from ....evaluation.results.selection import RankCorrelation

LEAST = 3  # any two things are in order or in reverse


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> RankCorrelation:
    """The correlation of the ranks, of which equal values share the mean."""
    first, second = _ranks(one), _ranks(other)
    if len(first) < LEAST or not (np.ptp(first) and np.ptp(second)):
        return RankCorrelation(None, len(first))
    return RankCorrelation(float(np.corrcoef(first, second)[0, 1]), len(first))


def _ranks(values: Sequence[float]) -> Floats:
    column = np.asarray(values, np.float64)[:, None]
    ranks: Floats = (column > column.T).sum(1) + ((column == column.T).sum(1) + 1) / 2
    return ranks
