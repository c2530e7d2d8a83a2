"""The rank of each row within its segment by a score: from an order of all rows, or by counting without one.

Segment s of as many rows as there are begins at floor(s * length / segments). The largest score of a segment
has rank 0; ties go to the lower row, and NaN counts as the smallest.
"""

from __future__ import annotations

import numpy as np

from ....plugins.body import FLOAT, INT64, Body, Value
from ....plugins.merge_tokens.function import ordered


def append_ranks_by_order(b: Body, order: str, segment: str, segments: int) -> Value:
    """Those of all rows: (length,) of int64.

    Args:
        b: where to.
        order: the rows by falling score, (length,).
        segment: which one each row belongs to, (length,).
        segments: how many there are.
    """
    sorted_segment = b.op("Gather", segment, order, axis=0)
    is_of = b.op("Cast", b.op("Equal", sorted_segment, _column(b, segments)), to=INT64)  # (segments, length)
    counted = b.op("Mul", is_of, b.op("CumSum", is_of, b.const(1)))
    rank = b.op("Sub", b.op("ReduceSum", counted, b.ints(0), keepdims=0), b.ints(1))
    return b.op("ScatterElements", rank, order, rank, axis=0)


def append_ranks_by_counting(b: Body, score: str, segment: str, segments: int) -> Value:
    """The same where nothing sorts so many rows: each row counts those of its segment that are ahead.

    Segments are rows of a table that is as wide as the longest; (segments, width, width) truths are compared.

    Args:
        b: where to.
        score: (length,) of float32.
        segment: which one each row belongs to, (length,).
        segments: how many there are.
    """
    length, count = b.dim(score, 0), b.ints(segments)
    width = b.op("Div", b.op("Add", length, b.ints(segments - 1)), count)
    start, end = (
        b.op("Div", b.op("Mul", _column(b, segments, first), length), count) for first in (0, 1)
    )  # (segments, 1)
    offset = b.range(width)
    place = b.op("Add", start, offset)  # (segments, width)
    is_there = b.op("Unsqueeze", b.op("Less", place, end), b.ints(1))
    last = b.op("Sub", length, b.ints(1))
    of_place = b.op("Gather", ordered(b, score), b.op("Min", place, last), axis=0)
    mine, other = b.op("Unsqueeze", of_place, b.ints(2)), b.op("Unsqueeze", of_place, b.ints(1))
    is_before = b.op("Less", b.op("Unsqueeze", offset, b.ints(0)), b.op("Unsqueeze", offset, b.ints(1)))
    tied = b.op("And", b.op("Equal", other, mine), is_before)
    ahead = b.op("And", b.op("Or", b.op("Greater", other, mine), tied), is_there)
    rank = b.op("ReduceSum", b.op("Cast", ahead, to=FLOAT), b.ints(2), keepdims=0)
    row = b.range(length)
    within = b.op("Sub", row, b.op("Gather", b.reshape(start, -1), segment, axis=0))
    index = b.op("Add", b.op("Mul", segment, width), within)
    return b.op("Cast", b.op("Gather", b.reshape(rank, -1), index, axis=0), to=INT64)


def _column(b: Body, segments: int, first: int = 0) -> Value:
    """The numbers of all segments, from the first one on: (segments, 1)."""
    return b.const(np.arange(first, first + segments)[:, None], np.int64)
