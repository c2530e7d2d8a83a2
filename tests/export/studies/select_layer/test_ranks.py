"""Ranks go by transfer entropy, ties to the earlier layer; resamples of the clips tell how firm they are."""

from __future__ import annotations

import numpy as np
import pytest

from fastadasp.export.studies.select_layer import ranks as module
from fastadasp.export.studies.select_layer.entropy import LayerMoments, resampled
from fastadasp.export.studies.select_layer.moments import Moments
from fastadasp.export.studies.select_layer.ranks import RankSpread, bootstrap_ranks, ranks


def layer(shift, seed=0, num_clips=12):
    """A layer whose second term is `shift` times as wide as the first, and noise on it."""
    rng = np.random.default_rng(seed)
    pairs = [(rng.standard_normal((30, 4)), rng.standard_normal((30, 4))) for _ in range(num_clips)]
    at_last, at_layer = zip(*pairs, strict=True)
    return LayerMoments(
        tuple(map(Moments.of, at_last)), tuple(Moments.of((1 + shift) * rows) for rows in at_layer)
    )


def test_the_smallest_ranks_first_and_ties_go_to_the_earlier_layer():
    assert ranks(np.array([3.0, 1.0, 2.0, 1.0])).tolist() == [4, 1, 3, 2]
    assert ranks(np.array([[0.0, 0.0], [2.0, 1.0]])).tolist() == [[1, 2], [2, 1]]


def test_a_seed_repeats_the_spreads():
    layers = [layer(0.02, seed=1), layer(0.03, seed=2), layer(0.01, seed=3)]
    assert bootstrap_ranks(layers, 50, seed=7) == bootstrap_ranks(layers, 50, seed=7)
    assert bootstrap_ranks(layers, 50, seed=7) != bootstrap_ranks(layers, 50, seed=8)


def test_draws_come_in_blocks_and_are_the_same(monkeypatch):
    layers, drawn = [layer(0.02, seed) for seed in range(3)], []

    def kept(layers, times):
        drawn.append(len(times))
        return resampled(layers, times)

    monkeypatch.setattr(module, "resampled", kept)
    spreads = bootstrap_ranks(layers, 50, seed=7)
    monkeypatch.setattr(module, "BLOCK", 12 * 20)  # numbers: 12 clips a draw, which are more than channels
    assert bootstrap_ranks(layers, 50, seed=7) == spreads
    assert drawn == [50, 20, 20, 10]


def test_layers_far_apart_keep_their_ranks_in_every_resample():
    spreads = bootstrap_ranks([layer(5.0, seed=1), layer(0.1, seed=2), layer(1.0, seed=3)], 200, seed=0)
    assert spreads == [RankSpread(3, 3, 0), RankSpread(1, 1, 1), RankSpread(2, 2, 0)]


def test_one_layer_ranks_first_in_each_resample():
    layers = [layer(0.02, seed) for seed in range(5)]
    spreads = bootstrap_ranks(layers, 100, seed=0)
    assert sum(spread.best for spread in spreads) == pytest.approx(1)
    assert all(1 <= spread.low <= spread.high <= 5 for spread in spreads)
    assert any(spread.low < spread.high for spread in spreads)
