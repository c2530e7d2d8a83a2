"""Pools of fixed capacities."""

from __future__ import annotations

import numpy as np
import pytest

from fastadasp.runtime.decoding.pool_buckets import SMALLEST, capacity_for, in_use, widened, with_room


@pytest.mark.parametrize(
    ("rows", "capacity"), [(0, 64), (1, 64), (64, 64), (65, 128), (128, 128), (129, 256), (1000, 1024)]
)
def test_capacities_are_few_and_large_enough(rows, capacity):
    assert capacity_for(rows) == capacity


def test_no_more_than_half_is_unused_beyond_the_smallest():
    for rows in range(SMALLEST + 1, 3000):
        assert rows <= capacity_for(rows) < 2 * rows


def test_rows_get_room_behind_them_and_come_out_of_it():
    rows = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    pool = with_room(rows, 64)
    assert pool.shape == (2, 64, 4)
    assert not pool[:, 3:].any()
    np.testing.assert_array_equal(in_use(pool, 3), rows)


def test_nobody_sees_what_is_not_in_use():
    mask = np.array([[True, False, True], [False, True, True]])
    wide = widened(mask, 64)
    assert wide.shape == (2, 64)
    np.testing.assert_array_equal(wide[:, :3], mask)
    assert not wide[:, 3:].any()
