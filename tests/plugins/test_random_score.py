"""Random scores are the same integers in every version."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastadasp.plugins.merge_tokens.op import RANDOM_SCORE

from .op_oracle import random_score
from .op_versions import Array, Version, every_version, examples

SEEDS = (0, 1, 2, 1009, 2**31 - 1, (2**31 - 1) * 1009 + 79, 2**63 - 1)


def drawn(version: Version, count: int, seed: int) -> Array:
    score: Array = version(RANDOM_SCORE, np.array([count], np.int64), seed=seed)
    return score


@every_version
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("count", [0, 1, 2, 750])
def test_every_version_draws_the_same_integers(version: Version, count: int, seed: int) -> None:
    score = drawn(version, count, seed)
    assert score.dtype == np.float32
    assert score.tolist() == random_score(count, seed)


@every_version
@examples
@given(st.integers(0, 100_000), st.sampled_from(SEEDS))
def test_a_longer_draw_starts_with_the_shorter_one(version: Version, count: int, seed: int) -> None:
    score = drawn(version, count, seed)
    assert score.shape == (count,)
    assert (score[:100] == drawn(version, 100, seed)[:count]).all()


@every_version
def test_different_seeds_draw_different_scores(version: Version) -> None:
    scores = np.stack([drawn(version, 300, seed) for seed in range(8)])
    for left in range(8):
        for right in range(left):
            assert np.mean(scores[left] == scores[right]) < 0.01
            assert abs(np.corrcoef(scores[left], scores[right])[0, 1]) < 0.2


@every_version
@pytest.mark.parametrize("seed", SEEDS)
def test_scores_are_roughly_uniform(version: Version, seed: int) -> None:
    score = drawn(version, 20_000, seed)
    assert score.min() >= 0
    assert score.max() < 1
    counts, _ = np.histogram(score, bins=20, range=(0, 1))
    assert ((counts - 1000.0) ** 2 / 1000).sum() < 50  # chi-square of 19 degrees: 43.8 at one in a thousand
    assert abs(np.corrcoef(score[:-1], score[1:])[0, 1]) < 0.03


@every_version
def test_scores_rarely_tie(version: Version) -> None:
    assert len(np.unique(drawn(version, 3000, 5))) >= 2995
