"""Cache eviction drops in each head the rows of its own smallest score and copies the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastadasp.plugins.evict_cache.op import EVICT_CACHE

from .op_draws import HUGE, scores, spans
from .op_oracle import kept_in_head
from .op_versions import Array, Heads, Version, assert_same_bits, every_version, examples, site


def caches(version: Version, heads: Heads, rows: int) -> tuple[Array, Array]:
    """Key and value of distinct numbers."""
    rng = np.random.default_rng(rows)
    return version.normal(rng, heads.kv, rows, heads.dim), version.normal(rng, heads.kv, rows, heads.dim)


def evict(version: Version, heads: Heads, *inputs: Any) -> tuple[Array, Array]:
    key, value = version(EVICT_CACHE, *inputs, heads=heads)
    return key, value


@every_version
@examples
@given(st.data())
def test_cache_eviction_agrees_with_plain_loops_bit_by_bit(version: Version, data: st.DataObject) -> None:
    span = data.draw(spans())
    heads = Heads(*data.draw(st.sampled_from([(1, 1), (4, 2), (3, 3)])), 2)
    score = np.stack([data.draw(scores(span.length)) for _ in range(heads.kv)]).astype(version.dtype)
    given_caches = caches(version, heads, span.rows)
    kept = evict(version, heads, *given_caches, score, *site(span.start, span.length, span.removed))
    for cache, left in zip(given_caches, kept, strict=True):
        assert_same_bits(left, kept_in_head(cache, span.start, score, span.removed))
        assert left.shape == (heads.kv, span.rows - span.removed, heads.dim)


@every_version
def test_every_head_keeps_rows_of_its_own(version: Version) -> None:
    heads = Heads(4, 2, 1)
    key = np.arange(10, dtype=version.dtype).reshape(2, 5, 1)
    score = np.array([[3, 1, 2], [1, 2, 3]], version.dtype)
    kept_key, kept_value = evict(version, heads, key, -key, score, *site(1, 3, 2))
    assert kept_key[:, :, 0].tolist() == [[0, 1, 4], [5, 8, 9]]
    assert_same_bits(kept_value, -kept_key)


@every_version
def test_ties_drop_the_lower_index_and_nan_goes_first(version: Version) -> None:
    heads = Heads(2, 2, 1)
    key = np.stack([np.arange(6, dtype=version.dtype)] * 2)[:, :, None]
    score = np.array([[3, 1, 2, 1, -0.0, 0.0], [0, 0, np.nan, 0, 0, np.nan]], version.dtype)
    kept, _ = evict(version, heads, key, key, score, *site(0, 6, 3))
    assert kept[:, :, 0].tolist() == [[0, 2, 3], [1, 3, 4]]


@every_version
@pytest.mark.parametrize("length", [0, 1, 2, 7])
@pytest.mark.parametrize(("start", "after"), [(0, 0), (0, 3), (2, 3), (2, 0)])
def test_removing_nothing_copies_every_bit(version: Version, start: int, after: int, length: int) -> None:
    heads = Heads(2, 2, 3)
    values = np.array([-0.0, 0.0, 1e-45, HUGE, -HUGE], version.dtype)
    key = np.resize(values, (2, start + length + after, 3))
    kept = evict(version, heads, key, -key, np.zeros((2, length), version.dtype), *site(start, length, 0))
    assert_same_bits(kept[0], key)
    assert_same_bits(kept[1], -key)


@every_version
@pytest.mark.parametrize("length", [2, 65])
def test_one_row_of_the_span_always_stays_in_each_head(version: Version, length: int) -> None:
    heads = Heads(6, 3, 2)
    key, value = caches(version, heads, length + 5)
    score = version.normal(np.random.default_rng(length), heads.kv, length)
    kept, _ = evict(version, heads, key, value, score, *site(3, length, length - 1))
    for head, best in enumerate(3 + score.argmax(1)):
        assert_same_bits(kept[head], key[head, [0, 1, 2, best, length + 3, length + 4]])
