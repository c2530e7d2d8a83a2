"""Groups of rows and their selection from standard ONNX ops: a Loop over rows, one over what is selected.

Both compute in float64. Each step of the second knows the groups chosen so far by their rows of the Cholesky
factor of the kernel, as in "Fast Greedy MAP Inference for Determinantal Point Process" (arXiv 1709.05135), so
the kernel itself is never there whole.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from ..body import BOOL, FLOAT, INT64, Body, Value, function, value
from .op import DIAGONAL, GRID, GROUP_SIMILARITY, LEAST, MOST, NO_LINK, SELECT_GROUPS, SMALLEST_NORM

DOUBLE = TensorProto.DOUBLE


def select_groups() -> onnx.FunctionProto:
    """`SelectGroups`. TopK and ArgMax give ties to the lower index."""
    b = Body()
    start, length = (b.op("Gather", "span", b.ints(i), axis=0) for i in (0, 1))
    end = b.op("Add", start, length)
    hidden, weight, relevance = (b.slice(x, start, end, 0) for x in ("hidden", "weight", "relevance"))
    rows = b.op("Cast", _finite(b, hidden), to=DOUBLE)
    similarity = b.slice(_links(b, _unit(b, rows), length), b.ints(1), length, 0)
    score = b.op("Cast", similarity, to=FLOAT, outputs=["score"])
    is_link = b.op("Cast", b.op("Greater", score, b.const(NO_LINK, np.float32)), to=INT64)
    links = b.op("Min", b.op("ReduceSum", is_link, b.ints(0)), "removed", outputs=["links"])
    is_head = _heads(b, score, links, length)
    first = b.op("Squeeze", b.op("NonZero", is_head), b.ints(0), outputs=["first"])
    group, groups = b.op("Sub", b.op("CumSum", is_head, b.const(0)), b.ints(1)), b.dim(first, 0)
    unit = _unit(b, _means(b, rows, _clamped(b, weight), group, groups))
    ones = b.op("Expand", b.const([1.0], np.float64), length)
    shared = _means(b, b.op("Unsqueeze", _clamped(b, relevance), b.ints(1)), ones, group, groups)
    prior = b.op("Mul", b.op("Log", b.op("Squeeze", shared, b.ints(1))), b.const(2, np.float64))
    stay = b.op("Sub", length, "removed")
    count = b.op("Where", b.op("Greater", groups, stay), stay, b.ints(0))
    kept = b.op("IsInf", _left_by_selection(b, unit, prior, groups, count))
    b.op("Cast", kept, to=FLOAT, outputs=["kept"])
    inputs = ["hidden", "weight", "relevance", "span", "removed"]
    return function(SELECT_GROUPS, inputs, ["score", "links", "kept", "first"], b)


def _finite(b: Body, rows: str) -> Value:
    """The rows with 0 for what is not finite."""
    infinite = b.op("Or", b.op("IsNaN", rows), b.op("IsInf", rows))
    return b.op("Where", infinite, b.const(0, np.float32), rows)


def _clamped(b: Body, numbers: str) -> Value:
    """Within `LEAST` and `MOST`, in float64; NaN fails the comparison and becomes the smallest."""
    least, most = (b.const(x, np.float32) for x in (LEAST, MOST))
    above = b.op("Where", b.op("Greater", numbers, least), numbers, least)
    return b.op("Cast", b.op("Min", above, most), to=DOUBLE)


def _unit(b: Body, rows: str) -> Value:
    norm = b.op("Sqrt", b.op("ReduceSumSquare", rows, b.ints(1)))
    return b.op("Div", rows, b.op("Max", norm, b.const(SMALLEST_NORM, np.float64)))


def _rounded(b: Body, x: str) -> Value:
    """In units of 1 / GRID."""
    return b.op("Round", b.op("Mul", x, b.const(GRID, np.float64)))


def _links(b: Body, unit: str, length: str) -> Value:
    """The mean cosine of each row with the group before it, or `NO_LINK`: (length,)."""
    step = Body("join_")
    row = step.op("Gather", unit, "join_row", axis=0)
    shared = step.op("ReduceSum", step.op("Mul", row, "join_total"), step.ints(0), keepdims=0)
    mean = step.op("Div", shared, "join_size")
    rounded = step.op("Div", _rounded(step, mean), step.const(GRID, np.float64))
    joins = step.op("GreaterOrEqual", rounded, step.const(GROUP_SIMILARITY, np.float64))
    total = step.op("Where", joins, step.op("Add", row, "join_total"), row)
    one = step.const(1, np.float64)
    size = step.op("Where", joins, step.op("Add", "join_size", one), one)
    link = step.op("Where", joins, rounded, step.const(NO_LINK, np.float64))
    inputs = [value("join_row", INT64, []), value("join_go", BOOL, [])]
    inputs += [value("join_total", DOUBLE, [None]), value("join_size", DOUBLE, [])]
    outputs = [value(total, DOUBLE, [None]), value(size, DOUBLE, []), value(link, DOUBLE, [])]
    nothing = b.op("Expand", b.const([0.0], np.float64), b.dim(unit, 1))  # whose cosine with any row is 0
    return b.loop(length, step, inputs, outputs, [nothing, b.const(1, np.float64)])[2]


def _heads(b: Body, score: str, links: str, length: str) -> Value:
    """1 for each row that is not the second of one of the `links` best edges, else 0: (length,)."""
    edges = b.ops("TopK", score, links, axis=0, largest=1, sorted=0, outputs=2)[1]
    seconds = b.op("Add", edges, b.ints(1))
    zeros = b.op("Expand", b.ints(0), b.op("Shape", seconds))
    return b.op("ScatterElements", b.op("Expand", b.ints(1), length), seconds, zeros, axis=0)


def _means(b: Body, rows: str, weight: str, group: str, groups: str) -> Value:
    """The weighted mean of each group: rows (length, width) to (groups, width)."""
    weight, group = (b.op("Unsqueeze", x, b.ints(1)) for x in (weight, group))
    sums = [_sums(b, x, group, groups) for x in (b.op("Mul", rows, weight), weight)]
    return b.op("Div", *sums)


def _sums(b: Body, rows: str, group: str, groups: str) -> Value:
    """The sum of each group, added up one by one: a difference of running sums would lose small weights."""
    zeros = b.op("Expand", b.const([[0.0]], np.float64), b.shape(groups, b.dim(rows, 1)))
    index = b.op("Expand", group, b.op("Shape", rows))
    return b.op("ScatterElements", zeros, index, rows, axis=0, reduction="add")


def _left_by_selection(b: Body, unit: str, prior: str, groups: str, count: str) -> Value:
    """What the `count` selected groups leave of each other one, and -inf for themselves: (groups,).

    `prior` is the logarithm of the square of each group's relevance.
    """
    step = Body("select_")
    whole = step.op("Max", "select_left", step.const(0, np.float64))  # whose logarithm is -inf once chosen
    gain = _rounded(step, step.op("Add", step.op("Log", whole), prior))
    best = step.op("ArgMax", gain, axis=0, keepdims=1)
    chosen = step.op("Transpose", step.op("Gather", unit, best, axis=0))
    cosine = step.reshape(step.op("MatMul", unit, chosen), 1, -1)
    factor = step.op("Transpose", step.op("Gather", "select_factors", best, axis=1))
    known = step.op("MatMul", factor, "select_factors")
    pivot = step.op("Sqrt", step.op("Gather", "select_left", best, axis=0))
    new = step.op("Div", step.op("Sub", cosine, known), pivot)  # (1, groups)
    left = step.op("Sub", "select_left", step.op("Squeeze", step.op("Mul", new, new), step.ints(0)))
    left = step.op("ScatterElements", left, best, step.const([-np.inf], np.float64), axis=0)
    factors = step.op("Concat", "select_factors", new, axis=0)
    inputs = [value("select_i", INT64, []), value("select_go", BOOL, [])]
    inputs += [value("select_left", DOUBLE, [None]), value("select_factors", DOUBLE, [None, None])]
    outputs = [value(left, DOUBLE, [None]), value(factors, DOUBLE, [None, None])]
    itself = b.op("ReduceSumSquare", unit, b.ints(1), keepdims=0)
    whole = b.op("Add", itself, b.const(DIAGONAL, np.float64))
    none = b.op("Expand", b.const([[0.0]], np.float64), b.shape(1, groups))  # a row that changes nothing
    return b.loop(count, step, inputs, outputs, [whole, none])[0]
