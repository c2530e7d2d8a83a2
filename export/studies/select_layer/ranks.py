"""Ranks of the layers by transfer entropy, and how much they depend on which recordings there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ....evaluation.figures.bootstrap import BLOCK
from ....evaluation.results.selection import RankSpread
from .entropy import LayerMoments, resampled
from .moments import Counts, Floats

INTERVAL = 2.5, 97.5  # percentiles
METHOD = (
    "bootstrap over recordings: 2.5th to 97.5th percentile of the ranks, on the same resamples for all layers"
)


def ranks(values: Floats) -> npt.NDArray[np.int64]:
    """Rank along the last axis, 1 for the smallest; of equal values the first ranks first."""
    order = np.argsort(values, axis=-1, kind="stable")
    return np.argsort(order, axis=-1, kind="stable") + 1


def bootstrap_ranks(layers: Sequence[LayerMoments], resamples: int, seed: int) -> list[RankSpread]:
    """The spread of each layer's rank, over seeded resamples of the recordings with replacement.

    Every resample takes the same recordings for all layers and both terms.
    """
    terms = layers[0].at_last
    at_once = max(1, BLOCK // max(len(terms), terms[0].mean.size))  # so that memory does not grow with them
    drawn = _drawn(len(terms), resamples, seed, at_once)
    found = np.concatenate([ranks(resampled(layers, times)) for times in drawn])
    low, high = np.percentile(found, INTERVAL, axis=0, method="inverted_cdf")  # ranks that do occur
    best = (found == 1).mean(axis=0)
    return [RankSpread(int(a), int(b), float(p)) for a, b, p in zip(low, high, best, strict=True)]


def _drawn(recordings: int, resamples: int, seed: int, at_once: int) -> Iterator[Counts]:
    """How often each recording is drawn, for so many resamples at once: (draws, recordings)."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, at_once):
        yield rng.multinomial(
            recordings, np.full(recordings, 1 / recordings), min(at_once, resamples - start)
        )
