"""Moments of batches add up to those of all rows, whatever the batches and their order."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastadasp.export.studies.select_layer.moments import Moments, pooled_variance

CHANNELS = 3
NUMBERS = st.floats(-1e3, 1e3, width=32)
ROWS = hnp.arrays(np.float32, st.tuples(st.integers(1, 12), st.just(CHANNELS)), elements=NUMBERS)
BATCHES = st.lists(ROWS, min_size=1, max_size=5)
CLOSE = {"rtol": 1e-10, "atol": 1e-8}  # beside numbers of up to 1e3, squared


def moments_of(batches):
    return reduce(Moments.__add__, map(Moments.of, batches), Moments.none(CHANNELS))


def assert_same(one, other):
    assert one.count == other.count
    np.testing.assert_allclose(one.mean, other.mean, **CLOSE)
    np.testing.assert_allclose(one.variance, other.variance, **CLOSE)


@given(BATCHES)
def test_batches_have_the_mean_and_variance_of_all_rows(batches):
    rows, found = np.concatenate(batches).astype(np.float64), moments_of(batches)
    assert found.count == len(rows)
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), **CLOSE)
    np.testing.assert_allclose(found.variance, rows.var(axis=0), **CLOSE)


@given(BATCHES, st.randoms(use_true_random=False))
def test_the_order_of_batches_does_not_matter(batches, random):
    shuffled = random.sample(batches, len(batches))
    assert_same(moments_of(batches), moments_of(shuffled))


@given(ROWS, st.lists(st.integers(0, 12), max_size=4))
def test_splits_do_not_matter_empty_ones_included(rows, cuts):
    assert_same(moments_of(np.split(rows, sorted(cuts))), Moments.of(rows))


@given(ROWS, ROWS, ROWS)
def test_moments_may_be_added_in_any_grouping(a, b, c):
    one, two, three = map(Moments.of, (a, b, c))
    assert_same((one + two) + three, one + (two + three))


@given(BATCHES, NUMBERS)
def test_a_constant_channel_has_a_variance_of_exactly_0(batches, value):
    for batch in batches:
        batch[:, 1] = value
    found = moments_of(batches)
    assert (found.mean[1], found.variance[1]) == (value, 0)
    times = np.arange(1, 2 * len(batches) + 1).reshape(2, -1)
    assert not pooled_variance([Moments.of(batch) for batch in batches], times)[:, 1].any()


def test_a_far_mean_takes_no_digits_from_the_variance():
    """The sum of squares would lose them all: 1e9 squared leaves no room for 1 in a float64."""
    steps = np.tile([-1.0, 1.0], 500)[:, None]
    found = moments_of([batch + 1e9 * np.ones(CHANNELS) for batch in np.split(steps, 10)])
    np.testing.assert_allclose(found.variance, 1.0, rtol=1e-12)


@given(BATCHES, st.data())
def test_pooled_variance_is_that_of_the_rows_repeated(batches, data):
    counts = st.lists(st.integers(0, 4), min_size=len(batches), max_size=len(batches)).filter(any)
    times = np.array(data.draw(st.lists(counts, min_size=1, max_size=3)))
    found = pooled_variance([Moments.of(batch) for batch in batches], times)
    for draw, variance in zip(times, found, strict=True):
        rows = np.concatenate([np.tile(b, (n, 1)) for b, n in zip(batches, draw, strict=True)])
        np.testing.assert_allclose(variance, rows.astype(np.float64).var(axis=0), rtol=1e-9, atol=1e-7)


def test_no_rows_change_nothing():
    some = Moments.of(np.eye(CHANNELS, dtype=np.float32))
    for total in (some + Moments.none(CHANNELS), Moments.none(CHANNELS) + some):
        assert total.count == some.count
        assert total.mean == pytest.approx(some.mean, abs=0)
        assert total.squares == pytest.approx(some.squares, abs=0)
    assert (Moments.none(CHANNELS) + Moments.none(CHANNELS)).count == 0
