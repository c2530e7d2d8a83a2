"""Attention of an encoder by products of int8: a Loop over chunks of queries, all heads at once.

Queries have a scale for each head of a chunk, keys one for each row, probabilities one for each query, values
one for each column. Two means are taken off first, so that what is left takes finer steps: that of the keys
changes no softmax (arXiv:2410.02367); that of the values comes back at the end, for probabilities add up to 1.
So what many small probabilities say together is not lost where each of them is less than a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....plugins.body import BOOL, FLOAT, INT64, Body, Value
from ....plugins.body import value as value_info
from ...checkpoint.quantized import MIDDLE_OF_UINT8
from .int8_rows import CONTRIB, LARGEST_UINT8, around, scales_of

QUERY_CHUNK = 64  # so that the scores of a chunk stay in the caches of a core


@dataclass(frozen=True)
class _Rounded:
    """Keys or values as integers, and what a product with them is multiplied by."""

    steps: Value  # int8: keys (heads, head_dim, rows), values (heads, rows, head_dim)
    scales: Value  # of the last axis: (heads, 1, its size)


def append_attention(g: Body, name: str, heads: tuple[int, int], query: str, key: str, value: str) -> Value:
    """Every row to every row: all are (rows, heads * head_dim) of float32, as is the result.

    Args:
        g: where the nodes go.
        name: of them.
        heads: how many, and head_dim.
        query: of all rows, as the others are.
        key: the same.
        value: the same.
    """
    b = Body(f"{name}/", within=g)
    rows = b.dim(query, 0)
    queries, keys, values = (
        b.op("Transpose", b.reshape(x, -1, *heads), perm=[1, 0, 2]) for x in (query, key, value)
    )  # (heads, rows, head_dim)
    mean = b.op("ReduceMean", values, b.ints(1), keepdims=1)
    chunks = b.op("Div", b.op("Add", rows, b.ints(QUERY_CHUNK - 1)), b.ints(QUERY_CHUNK))
    step = Body(f"{b.prefix}step_")
    scores = _scores(step, _queries(step, queries, rows), _keys(b, keys, heads))
    attended = step.op("Add", _attended(step, scores, _values(b, values, mean, heads), heads), mean)
    attended = step.op("Transpose", attended, perm=[1, 0, 2])
    inputs = [value_info(f"{step.prefix}i", INT64, []), value_info(f"{step.prefix}go", BOOL, [])]
    stacked = b.loop(chunks, step, inputs, [value_info(attended, FLOAT, [QUERY_CHUNK, *heads])])[0]
    return b.slice(b.reshape(stacked, -1, heads[0] * heads[1]), b.ints(0), rows, 0)


def _keys(b: Body, keys: str, heads: tuple[int, int]) -> _Rounded:
    """Without their mean; the scale of the scores is in theirs."""
    num_heads, head_dim = heads
    keys = b.op("Sub", keys, b.op("ReduceMean", keys, b.ints(1), keepdims=1))
    keys = b.reshape(keys, -1, head_dim)
    scales = scales_of(b, b.op("ReduceMax", b.op("Abs", keys), b.ints(1), keepdims=0))
    steps = b.reshape(around(b, keys, scales, 0, np.int8, f"{b.prefix}keys"), num_heads, -1, head_dim)
    scales = b.op("Mul", scales, b.const(head_dim**-0.5, np.float32))
    return _Rounded(b.op("Transpose", steps, perm=[0, 2, 1]), b.reshape(scales, num_heads, 1, -1))


def _values(b: Body, values: str, mean: str, heads: tuple[int, int]) -> _Rounded:
    """Without their mean."""
    num_heads, head_dim = heads
    columns = b.op("Transpose", b.op("Sub", values, mean), perm=[0, 2, 1])
    columns = b.reshape(columns, num_heads * head_dim, -1)
    scales = scales_of(b, b.op("ReduceMax", b.op("Abs", columns), b.ints(1), keepdims=0))
    steps = b.reshape(around(b, columns, scales, 0, np.int8, f"{b.prefix}values"), num_heads, head_dim, -1)
    return _Rounded(b.op("Transpose", steps, perm=[0, 2, 1]), b.reshape(scales, num_heads, 1, head_dim))


def _queries(b: Body, queries: str, rows: str) -> Value:
    """Those of this chunk; past the end the last one stands in, and is cut off later."""
    start = b.op("Mul", b.op("Reshape", f"{b.prefix}i", b.ints(1)), b.ints(QUERY_CHUNK))
    index = b.op("Add", start, b.const(np.arange(QUERY_CHUNK)))
    return b.op("Gather", queries, b.op("Min", index, b.op("Sub", rows, b.ints(1))), axis=1)


def _scores(b: Body, queries: str, keys: _Rounded) -> Value:
    """(heads, queries, rows), apart from what all scores of a query have in common."""
    scales = scales_of(b, b.op("ReduceMax", b.op("Abs", queries), b.ints(1, 2), keepdims=0))
    steps = around(b, queries, scales, MIDDLE_OF_UINT8, np.uint8, f"{b.prefix}queries")
    of_products = b.op("Mul", keys.scales, b.reshape(scales, -1, 1, 1))
    return _product(b, steps, _Rounded(keys.steps, of_products), MIDDLE_OF_UINT8, f"{b.prefix}scores")


def _attended(b: Body, scores: str, values: _Rounded, heads: tuple[int, int]) -> Value:
    """(heads, queries, head_dim)."""
    shares = b.reshape(b.op("Softmax", scores, axis=-1), heads[0] * QUERY_CHUNK, -1)
    scales = scales_of(b, b.op("ReduceMax", shares, b.ints(1), keepdims=0), LARGEST_UINT8)
    steps = b.reshape(around(b, shares, scales, 0, np.uint8, f"{b.prefix}shares"), heads[0], QUERY_CHUNK, -1)
    product = _product(b, steps, values, 0, f"{b.prefix}attended")
    return b.op("Mul", product, b.reshape(scales, heads[0], QUERY_CHUNK, 1))


def _product(b: Body, steps: str, rounded: _Rounded, middle: int, name: str) -> Value:
    """Of uint8 around a middle, and of keys or values; with the scales of these."""
    return b.op(
        "MatMulIntegerToFloat",
        *(steps, rounded.steps, b.const(1, np.float32), rounded.scales, b.const(middle, np.uint8)),
        name=name,
        domain=CONTRIB,
    )
