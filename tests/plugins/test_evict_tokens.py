"""Eviction drops the rows of the smallest score and copies the others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastadasp.plugins.evict_tokens.op import EVICT_TOKENS

from .op_draws import HUGE, floats, scores, spans
from .op_oracle import kept_rows
from .op_versions import Version, assert_same_bits, every_version, examples, site


@every_version
@examples
@given(st.data())
def test_eviction_agrees_with_plain_loops_bit_by_bit(version: Version, data: st.DataObject) -> None:
    span = data.draw(spans())
    hidden = data.draw(floats(span.rows, 3)).astype(version.dtype)
    score = data.draw(scores(span.length)).astype(version.dtype)
    kept = version(EVICT_TOKENS, hidden, score, *site(span.start, span.length, span.removed))
    assert_same_bits(kept, hidden[kept_rows(span.rows, span.start, score, span.removed)])
    assert len(kept) == span.rows - span.removed


@every_version
@pytest.mark.parametrize("removed", range(6))
def test_all_equal_scores_drop_the_first_rows_of_the_span(version: Version, removed: int) -> None:
    hidden = version.normal(np.random.default_rng(0), 9, 2)
    kept = version(EVICT_TOKENS, hidden, np.zeros(6, version.dtype), *site(2, 6, removed))
    assert_same_bits(kept, np.concatenate([hidden[:2], hidden[2 + removed :]]))


@every_version
def test_ties_drop_the_lower_index(version: Version) -> None:
    hidden = np.arange(6, dtype=version.dtype)[:, None]
    score = np.array([3, 1, 2, 1, -0.0, 0.0], version.dtype)
    kept = version(EVICT_TOKENS, hidden, score, *site(0, 6, 3))
    assert kept[:, 0].tolist() == [0, 2, 3]


@every_version
@pytest.mark.parametrize("length", [0, 1, 2, 7])
@pytest.mark.parametrize(("start", "after"), [(0, 0), (0, 3), (2, 3), (2, 0)])
def test_removing_nothing_copies_every_bit(version: Version, start: int, after: int, length: int) -> None:
    values = np.array([-0.0, 0.0, 1e-45, HUGE, -HUGE], version.dtype)
    hidden = np.resize(values, (start + length + after, 3))
    kept = version(EVICT_TOKENS, hidden, np.zeros(length, version.dtype), *site(start, length, 0))
    assert_same_bits(kept, hidden)


@every_version
@pytest.mark.parametrize("length", [2, 65])
def test_one_row_of_the_span_always_stays(version: Version, length: int) -> None:
    rng = np.random.default_rng(length)
    hidden, score = version.normal(rng, length + 5, 2), version.normal(rng, length)
    kept = version(EVICT_TOKENS, hidden, score, *site(3, length, length - 1))
    best = 3 + int(score.argmax())
    assert_same_bits(kept, hidden[[0, 1, 2, best, length + 3, length + 4]])
