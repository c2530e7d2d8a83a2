"""Reductions from standard ops whose lengths follow from shapes, so that no device waits for the host.

Of A-ToMe alone the length depends on the data; the host waits for one number at each of its layers.
Rows are never listed by a search (NonZero) but counted: a running sum gives each row its place in the output,
and rows that share a place add up there. So the output is as long as its input less what is removed, which
the shapes tell. Rows are summed in float32; scores are compared in float64.

A device's TopK may order ties in any way. Scores are therefore made unlike first: in float64 each moves by
2^-40 of itself, and 1e-300, for each place, which is less than float32 numbers differ by. OpenVINO's CPU
plugin computes all of this in float32: there, of rows whose scores are equal, other ones may go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from onnx import TensorProto

from ....plugins.body import FLOAT, INT64, Body, Value
from ....plugins.evict_cache.op import EVICT_CACHE
from ....plugins.evict_tokens.op import EVICT_TOKENS
from ....plugins.merge_tokens.op import (
    LARGEST_WEIGHT,
    MERGE_EDGES,
    MERGE_PAIRS,
    MERGE_TOKENS,
    SMALLEST_WEIGHT,
)
from ....profiles.kv_layout import ROWS_AXIS
from .lowering import Cut

LARGEST = float(np.finfo(np.float32).max)
TIE, TIE_OF_ZEROS = 2.0**-40, 1e-300
SMALLEST_NORMS = 1e-300  # the least divisor: a zero key has similarity 0 to any key
DOUBLE = TensorProto.DOUBLE

Outputs = Sequence[str]


def append_reduction(
    b: Body, op_type: str, inputs: Sequence[str], cut: Cut, outputs: Outputs, like: Callable[[str], str]
) -> None:
    """Append one op; scores and weights are float32.

    Args:
        b: where to; its prefix starts every name.
        op_type: of `plugins/`.
        inputs: what is reduced, and what it is reduced by, as the op has them before `span` and `removed`.
        cut: where, and how many rows.
        outputs: names of the reduced tensors.
        like: appends the cast of float32 rows to the type of what is reduced.
    """
    FIXED_LENGTHS[op_type](b, inputs, cut, outputs, like)


def append_edge_similarity(b: Body, key: str, cut: Cut) -> Value:
    """The cosine of each key of the span of KV layout and the next; of the last one -inf.

    In float64 no square overflows, so that no largest number need be found first, which takes cuDNN.
    """
    start, length = cut.span.start, cut.length
    rows = b.op("Transpose", b.slice(key, start, b.op("Add", start, length), ROWS_AXIS), perm=[1, 0, 2])
    rows = b.op("Cast", b.op("Flatten", rows, axis=1), to=DOUBLE)  # (length, kv_heads * head_dim)
    place = b.range(length)
    following = b.op("Min", b.op("Add", place, b.ints(1)), b.op("Sub", length, b.ints(1)))
    product = b.op("Mul", rows, b.op("Gather", rows, following, axis=0))
    norm = b.op("Sqrt", _row_sums(b, b.op("Mul", rows, rows)))
    norms = b.op("Mul", norm, b.op("Gather", norm, following, axis=0))
    norms = b.op("Max", norms, b.const(SMALLEST_NORMS, np.float64))
    cosine = b.op("Cast", b.op("Div", _row_sums(b, product), norms), to=FLOAT)
    return b.op("Where", b.op("Less", place, following), cosine, b.const(-np.inf, np.float32))


def _merge_tokens(
    b: Body, inputs: Sequence[str], cut: Cut, outputs: Outputs, like: Callable[[str], str]
) -> None:
    hidden, key, weight = inputs
    _merge(b, hidden, append_edge_similarity(b, key, cut), weight, cut, outputs, like)


def _merge_edges(
    b: Body, inputs: Sequence[str], cut: Cut, outputs: Outputs, like: Callable[[str], str]
) -> None:
    hidden, score, weight = inputs
    filled = b.op("Concat", score, b.const([-np.inf], np.float32), axis=0)  # the last row has no edge
    _merge(b, hidden, filled, weight, cut, outputs, like)


def _merge_pairs(
    b: Body, inputs: Sequence[str], cut: Cut, outputs: Outputs, like: Callable[[str], str]
) -> None:
    """Each run along the chosen edges is cut into pairs. How many rows that leaves depends on the data: the
    host waits for that one number, and no operator lists rows.
    """
    hidden, key = inputs
    rows = b.dim(hidden, 0)
    starts_run = _run_heads(b, append_edge_similarity(b, key, cut), cut, rows)
    run, index = _places(b, starts_run), b.range(rows)
    starts = b.op("Mul", index, starts_run)
    first = b.op("ScatterElements", b.op("Expand", b.ints(0), rows), run, starts, axis=0, reduction="add")
    within = b.op("Sub", index, b.op("Gather", first, run, axis=0))
    place = _places(b, b.op("Sub", b.ints(1), b.op("Mod", within, b.ints(2))))
    left = b.op("Add", b.op("Gather", place, b.ints(-1), axis=0), b.ints(1))
    ones = b.op("Expand", b.const([1.0], np.float32), rows)
    _write_means(b, hidden, ones, place, left, outputs, like)


def _evict_tokens(
    b: Body, inputs: Sequence[str], cut: Cut, outputs: Outputs, like: Callable[[str], str]
) -> None:
    hidden, score = inputs
    gone = _extreme(b, score, cut, largest=False, axis=0)
    keep = _around(b, b.op("Sub", b.ints(1), gone), cut, b.dim(hidden, 0), before=0)
    b.op("Gather", hidden, _kept(b, keep, cut, axis=0), axis=0, outputs=outputs)


def _evict_cache(
    b: Body, inputs: Sequence[str], cut: Cut, outputs: Outputs, like: Callable[[str], str]
) -> None:
    key, value, score = inputs  # both in KV layout; (kv_heads, length)
    gone = _extreme(b, score, cut, largest=False, axis=1)
    keep = _around(b, b.op("Sub", b.ints(1), gone), cut, b.dim(key, ROWS_AXIS), before=0, heads=b.dim(key, 0))
    kept = b.op("Unsqueeze", _kept(b, keep, cut, axis=1), b.ints(2))
    for cache, output in zip((key, value), outputs, strict=True):
        b.op("GatherND", cache, kept, batch_dims=1, outputs=[output])


_Append = Callable[[Body, Sequence[str], Cut, Outputs, Callable[[str], str]], None]

FIXED_LENGTHS: dict[str, _Append] = {
    MERGE_TOKENS: _merge_tokens,
    MERGE_EDGES: _merge_edges,
    MERGE_PAIRS: _merge_pairs,
    EVICT_TOKENS: _evict_tokens,
    EVICT_CACHE: _evict_cache,
}


def _merge(
    b: Body, hidden: str, score: str, weight: str, cut: Cut, outputs: Outputs, like: Callable[[str], str]
) -> None:
    """Write the weighted mean of each run of rows along the edges of the largest score."""
    rows = b.dim(hidden, 0)
    place = _places(b, _run_heads(b, score, cut, rows))
    _write_means(b, hidden, weight, place, b.op("Sub", rows, cut.removed), outputs, like)


def _run_heads(b: Body, score: str, cut: Cut, rows: str) -> Value:
    """1 at the first row of each run along the edges of the largest score, 0 at the others: (rows,)."""
    chosen = _extreme(b, score, cut, largest=True, axis=0)  # edge i joins rows i and i + 1 of the span
    joined = b.slice(chosen, b.ints(0), b.op("Sub", cut.length, b.ints(1)), 0)
    return _around(b, b.op("Sub", b.ints(1), joined), cut, rows, before=1)


def _places(b: Body, is_head: str) -> Value:
    """Which head each row belongs to, the last one before it or itself: (rows,)."""
    return b.op("Sub", b.op("CumSum", is_head, b.const(0)), b.ints(1))


def _write_means(
    b: Body, hidden: str, weight: str, place: str, left: str, outputs: Outputs, like: Callable[[str], str]
) -> None:
    """Write the weighted mean of the rows of each place, `left` of them."""
    share = b.op("Unsqueeze", _shares(b, weight, place, left), b.ints(1))
    shared = b.op("Mul", b.op("Cast", hidden, to=FLOAT), share)
    index = b.op("Expand", b.op("Unsqueeze", place, b.ints(1)), b.op("Shape", hidden))
    zeros = _zeros(b, b.op("Concat", left, b.dim(hidden, 1), axis=0))
    merged = b.op("ScatterElements", zeros, index, shared, axis=0, reduction="add")
    b.op("Identity", like(merged), outputs=outputs)


def _shares(b: Body, weight: str, place: str, left: str) -> Value:
    """The part of each row in its run: (rows,). NaN fails the comparison and becomes the smallest weight."""
    least, most = (b.const(x, np.float32) for x in (SMALLEST_WEIGHT, LARGEST_WEIGHT))
    weight = b.op("Min", b.op("Where", b.op("Greater", weight, least), weight, least), most)
    total = b.op("ScatterElements", _zeros(b, left), place, weight, axis=0, reduction="add")
    return b.op("Div", weight, b.op("Gather", total, place, axis=0))


def _extreme(b: Body, score: str, cut: Cut, largest: bool, axis: int) -> Value:
    """1 at the `removed` largest or smallest scores along an axis, 0 elsewhere: int64."""
    order = append_order(b, score, largest, axis)
    first = b.op("Cast", b.op("Less", b.range(b.dim(score, axis)), cut.removed), to=INT64)
    first = b.op("Expand", first, b.op("Shape", order))
    return b.op("ScatterElements", first, order, first, axis=axis)


def append_order(b: Body, score: str, largest: bool = True, axis: int = 0) -> Value:
    """Places of scores along an axis, the largest or the smallest first.

    NaN counts as the smallest; ties go to the lower index.
    """
    low, high = b.const(-LARGEST, np.float32), b.const(LARGEST, np.float32)
    number = b.op("Where", b.op("IsNaN", score), low, score)
    number = b.op("Cast", b.op("Max", b.op("Min", number, high), low), to=DOUBLE)
    count = b.dim(score, axis)
    place = b.op("Cast", b.range(count), to=DOUBLE)
    step = b.op("Mul", b.op("Abs", number), b.const(TIE, np.float64))
    step = b.op("Mul", b.op("Add", step, b.const(TIE_OF_ZEROS, np.float64)), place)
    rank = b.op("Sub" if largest else "Add", number, step)
    return b.ops("TopK", rank, count, axis=axis, largest=int(largest), sorted=1, outputs=2)[1]


def _around(b: Body, flags: str, cut: Cut, rows: str, before: int, heads: str | None = None) -> Value:
    """Flags of the rows of the span from the row `before` on, with ones for all other rows: (…, rows)."""
    axis = 0 if heads is None else 1
    first = b.op("Min", b.op("Add", cut.span.start, b.ints(before)), rows)
    rest = b.op("Sub", b.op("Sub", rows, first), b.dim(flags, axis))
    ones = (
        b.op("Expand", b.ints(1), count if heads is None else b.op("Concat", heads, count, axis=0))
        for count in (first, rest)
    )
    left, right = ones
    return b.op("Concat", left, flags, right, axis=axis)


def _kept(b: Body, keep: str, cut: Cut, axis: int) -> Value:
    """The rows whose flag is 1, in order: (…, rows - removed). All others share a place behind them."""
    shape = b.op("Shape", keep)
    left = b.op("Sub", b.dim(keep, axis), cut.removed)
    place = b.op("Sub", b.op("CumSum", keep, b.const(axis)), b.ints(1))
    place = b.op("Where", b.op("Equal", keep, b.ints(1)), place, left)
    size = b.op("Add", left, b.ints(1))
    room = b.op("Concat", b.dim(keep, 0), size, axis=0) if axis else size
    index = b.op("Expand", b.range(b.dim(keep, axis)), shape)
    listed = b.op("ScatterElements", b.op("Expand", b.ints(0), room), place, index, axis=axis)
    return b.slice(listed, b.ints(0), left, axis)


def _row_sums(b: Body, x: str) -> Value:
    return b.op("ReduceSum", x, b.ints(1), keepdims=0)


def _zeros(b: Body, shape: str) -> Value:
    """Negative ones, to which any number adds up to itself, -0 included."""
    return b.op("Expand", b.const([-0.0], np.float32), shape)
