"""Pools of a few fixed capacities, into which decode steps write their rows in place.

A pool that grows by each step is copied by each step, and gives every step another shape. One with room
keeps its memory and its shape for many steps: a backend may prepare, or capture, a step for each capacity
once. All capacities are `SMALLEST` times a power of two, so that there are few, and no more than half of one
is unused beyond the smallest. Rows not in use are zeros: a mask hides them, but 0 times NaN would be NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ...profiles.kv_layout import rows_of, take_rows, with_rows

SMALLEST = 64  # rows
Mask = npt.NDArray[np.bool_]


def capacity_for(rows: int) -> int:
    """The least capacity of a pool of so many rows."""
    return max(SMALLEST, 1 << (rows - 1).bit_length())


def with_room(rows: npt.NDArray[Any], capacity: int) -> npt.NDArray[Any]:
    """Rows of a cache, in KV layout, and zeros behind them up to the capacity."""
    filled = np.zeros(with_rows(rows.shape, capacity), rows.dtype)
    take_rows(filled, slice(rows_of(rows.shape)))[...] = rows
    return filled


def in_use(pool: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    """The rows of a pool without the room behind them."""
    return np.ascontiguousarray(take_rows(pool, slice(rows)))


def widened(mask: Mask, capacity: int) -> Mask:
    """The mask of a step, (beams, rows), for a pool of this capacity: nobody sees what is not in use."""
    return np.pad(mask, ((0, 0), (0, capacity - mask.shape[1])))
