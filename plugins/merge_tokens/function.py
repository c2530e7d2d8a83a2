"""Token merging from standard ONNX ops.

The edge form: a row that is not the second of a chosen edge starts a cluster, so cluster numbers are a
running sum and the output length is known before the data. Heads are gathered and only the merged rows
are added to them, so rows outside a merge are copied once and never recomputed.

ONNX Runtime spreads ScatterND over threads without regard to equal indices, and then loses additions.
The rows of a cluster are therefore summed in pairs first, and ScatterND only meets distinct indices.
"""

from __future__ import annotations

import numpy as np
import onnx

from ..body import BOOL, DOMAIN, FLOAT, INT64, Body, function, value
from .op import (
    EDGE_SIMILARITY,
    LARGEST_WEIGHT,
    MERGE_EDGES,
    MERGE_PAIRS,
    MERGE_TOKENS,
    RANDOM_SCORE,
    SMALLEST_NORM,
    SMALLEST_WEIGHT,
)


def edge_similarity() -> onnx.FunctionProto:
    """`EdgeSimilarity`."""
    b = Body()
    start, length = _span(b)
    rows = b.slice("key", start, b.op("Add", start, length), 1)  # in KV layout
    scale = b.op("ReduceMax", b.op("Abs", rows), b.ints(0, 2))
    unit = b.op("Div", rows, _at_least(b, scale))
    norm = b.op("Sqrt", b.op("ReduceSumSquare", unit, b.ints(0, 2)))
    unit = b.op("Div", unit, _at_least(b, norm))
    left = b.slice(unit, b.ints(0), b.ints(-1), 1)
    right = b.slice(unit, b.ints(1), length, 1)
    b.op("ReduceSum", b.op("Mul", left, right), b.ints(0, 2), keepdims=0, outputs=["similarity"])
    return function(EDGE_SIMILARITY, ["key", "span"], ["similarity"], b)


def merge_edges() -> onnx.FunctionProto:
    """`MergeEdges`."""
    b = Body()
    seconds = _chosen_seconds(b, "score")
    _weighted_mean(b, "weight", _without(b, b.dim("hidden", 0), seconds))
    return function(MERGE_EDGES, ["hidden", "score", "weight", "span", "removed"], ["merged"], b)


def merge_tokens() -> onnx.FunctionProto:
    """`MergeTokens`: `EdgeSimilarity`, then `MergeEdges`."""
    b = Body()
    score = b.op(EDGE_SIMILARITY, "key", "span", domain=DOMAIN)
    b.op(MERGE_EDGES, "hidden", score, "weight", "span", "removed", domain=DOMAIN, outputs=["merged"])
    inputs = ["hidden", "key", "weight", "span", "removed"]
    return function(MERGE_TOKENS, inputs, ["merged"], b, uses_own_ops=True)


def merge_pairs() -> onnx.FunctionProto:
    """`MergePairs`: each cluster of chosen edges is cut into pairs, then averaged."""
    b = Body()
    seconds = _chosen_seconds(b, b.op(EDGE_SIMILARITY, "key", "span", domain=DOMAIN))
    rows = b.dim("hidden", 0)
    in_run = _without(b, rows, seconds)
    first = b.op("Gather", _nonzero(b, in_run), _clusters(b, in_run), axis=0)  # first row of each run
    index = b.op("Range", b.const(0), b.op("Squeeze", rows), b.const(1))
    odd = b.op("Mod", b.op("Sub", index, first), b.ints(2))
    ones = b.op("Expand", b.const([1.0], np.float32), rows)
    _weighted_mean(b, ones, b.op("Sub", b.ints(1), odd))
    inputs = ["hidden", "key", "span", "removed"]
    return function(MERGE_PAIRS, inputs, ["merged"], b, uses_own_ops=True)


def random_score() -> onnx.FunctionProto:
    """`RandomScore`: integer arithmetic only, so every backend draws the same numbers."""
    b = Body()
    b.nodes.append(_attribute_constant("seed", "seed_value"))
    one = b.const(1)
    index = b.op("Range", one, b.op("Add", b.op("Squeeze", "count", b.ints(0)), one), one)
    x = b.op("Mul", index, b.const(0x9E3779B1))
    seed = b.op("Mul", b.op("Mod", "seed_value", b.const(2**31)), b.const(0x85EBCA6B))
    x = b.op("Mod", b.op("Add", x, seed), b.const(2**31))
    for factor in (0x45D9F3B, 0x2C1B3C6D):
        x = b.op("Mod", b.op("Mul", _xor_shift(b, x), b.const(factor)), b.const(2**31))
    top = b.op("Cast", b.op("Div", _xor_shift(b, x), b.const(2**7)), to=FLOAT)
    b.op("Div", top, b.const(2**24, np.float32), outputs=["score"])
    return function(RANDOM_SCORE, ["count"], ["score"], b, attributes=["seed"])


def ordered(b: Body, score: str) -> str:
    """The scores with NaN as the smallest, which TopK would put anywhere."""
    return b.op("Where", b.op("IsNaN", score), b.const(-np.inf, np.float32), score)


def _span(b: Body) -> tuple[str, str]:
    """start and length of the span, each int64 of shape (1,)."""
    return b.op("Gather", "span", b.ints(0), axis=0), b.op("Gather", "span", b.ints(1), axis=0)


def _at_least(b: Body, norm: str) -> str:
    return b.op("Max", norm, b.const(SMALLEST_NORM, np.float32))


def _xor_shift(b: Body, x: str) -> str:
    return b.op("BitwiseXor", x, b.op("Div", x, b.const(2**15)))


def _attribute_constant(attribute: str, output: str) -> onnx.NodeProto:
    """A Constant whose value is an integer attribute of the function."""
    node = onnx.helper.make_node("Constant", [], [output], name=output)
    reference = onnx.AttributeProto(name="value_int", type=onnx.AttributeProto.INT, ref_attr_name=attribute)
    node.attribute.append(reference)
    return node


def _chosen_seconds(b: Body, score: str) -> str:
    """The second row of each chosen edge: (removed,). TopK gives ties to the lower index."""
    start, _ = _span(b)
    _, edges = b.ops("TopK", ordered(b, score), "removed", axis=0, largest=1, sorted=0, outputs=2)
    return b.op("Add", edges, b.op("Add", start, b.ints(1)))


def _without(b: Body, rows: str, index: str) -> str:
    """(rows,) of int64: 0 at `index`, 1 elsewhere."""
    ones, zeros = b.op("Expand", b.ints(1), rows), b.op("Expand", b.ints(0), b.op("Shape", index))
    return b.op("ScatterElements", ones, index, zeros, axis=0)


def _clusters(b: Body, is_head: str) -> str:
    """The cluster that each row belongs to: (rows,)."""
    return b.op("Sub", b.op("CumSum", is_head, b.const(0)), b.ints(1))


def _nonzero(b: Body, flags: str) -> str:
    return b.op("Squeeze", b.op("NonZero", flags), b.ints(0))


def _weighted_mean(b: Body, weight: str, is_head: str) -> None:
    """Write `merged`: heads times their share, plus the other rows of each cluster times theirs."""
    cluster, heads = _clusters(b, is_head), _nonzero(b, is_head)
    rest = _nonzero(b, b.op("Sub", b.ints(1), is_head))
    share = _column(b, _shares(b, weight, cluster, heads))
    base, added = (
        b.op("Mul", b.op("Gather", "hidden", rows, axis=0), b.op("Gather", share, rows, axis=0))
        for rows in (heads, rest)
    )
    into = b.op("Gather", cluster, rest, axis=0)
    position = b.op("Sub", b.op("Sub", rest, b.op("Gather", heads, into, axis=0)), b.ints(1))
    into = b.op("Compress", into, b.op("Equal", position, b.ints(0)), axis=0)
    sums = _run_sums(b, added, position)
    b.op("ScatterND", base, _column(b, into), sums, reduction="add", outputs=["merged"])


def _shares(b: Body, weight: str, cluster: str, heads: str) -> str:
    """The part of each row in its cluster: (rows,). NaN fails the comparison and becomes the smallest."""
    least, most = (b.const(x, np.float32) for x in (SMALLEST_WEIGHT, LARGEST_WEIGHT))
    weight = b.op("Min", b.op("Where", b.op("Greater", weight, least), weight, least), most)
    zeros = b.op("Expand", b.const([0.0], np.float32), b.op("Shape", heads))
    total = b.op("ScatterElements", zeros, cluster, weight, axis=0, reduction="add")
    return b.op("Div", weight, b.op("Gather", total, cluster, axis=0))


def _run_sums(b: Body, rows: str, position: str) -> str:
    """The sum of each run of rows: (runs, hidden_size). `position` counts from 0 within a run.

    Each round adds the rows at odd positions to the rows before them and keeps those at even ones: as
    many rounds as the longest run has bits.
    """
    last = b.op("ReduceMax", b.op("Concat", position, b.ints(0), axis=0))
    longer = b.op("GreaterOrEqual", last, b.const(2 ** np.arange(31)))
    rounds = b.op("ReduceSum", b.op("Cast", longer, to=INT64), b.ints(0))
    step = Body("pair_")
    odd = step.op("Mod", "pair_position", step.ints(2))
    even = step.op("Sub", step.ints(1), odd)
    kept, moved = _nonzero(step, even), _nonzero(step, odd)
    into = step.op("Gather", _clusters(step, even), moved, axis=0)
    summed = step.op(
        "ScatterND",
        step.op("Gather", "pair_rows", kept, axis=0),
        _column(step, into),
        step.op("Gather", "pair_rows", moved, axis=0),
        reduction="add",
    )
    halved = step.op("Div", step.op("Gather", "pair_position", kept, axis=0), step.ints(2))
    inputs = [value("pair_i", INT64, []), value("pair_go", BOOL, [])]
    inputs += [value("pair_rows", FLOAT, [None, None]), value("pair_position", INT64, [None])]
    outputs = [value(summed, FLOAT, [None, None]), value(halved, INT64, [None])]
    return b.loop(rounds, step, inputs, outputs, [rows, position])[0]


def _column(b: Body, vector: str) -> str:
    return b.op("Unsqueeze", vector, b.ints(1))
