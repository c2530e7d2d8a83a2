"""Attention of an encoder by products of int8: a Loop over chunks of queries, all heads at once.

Chunks are so short that their scores stay in the caches of a core; the bound of a request counts with them.

Queries have a scale for each head, keys one for each row, probabilities one for each query,
values one for each column. Two means are taken off first, so that what is left takes finer steps: that of
the keys changes no softmax (arXiv:2410.02367); that of the values comes back at the end, for probabilities
add up to 1. So what many small probabilities say together is not lost where each is less than a step.

Keys and probabilities take fewer steps than 8 bits hold. Kernels for CPUs without VNNI add up two products in
16 bits, and what does not fit is cut off; so it always fits, at the cost of some exactness.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....plugins.body import BOOL, FLOAT, INT64, Body, Value
from ....plugins.body import value as value_info
from ....plugins.causal_attention.op import QUERY_CHUNK
from ...checkpoint.quantized import LARGEST_INT8, MIDDLE_OF_UINT8
from .int8_rows import CONTRIB, LARGEST_UINT8, around, scales_of

LARGEST_PRODUCT = (2**15 - 1) // 2  # two of them fit in 16 bits
KEY_STEPS = LARGEST_PRODUCT // LARGEST_UINT8  # 64: queries are stored as up to 255
SHARE_STEPS = LARGEST_PRODUCT // LARGEST_INT8  # 129: values are up to 127


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
    b, width = Body(f"{name}/", within=g), heads[0] * heads[1]
    rows = b.dim(query, 0)
    queries, keys, values = (
        b.op("Transpose", b.reshape(x, -1, *heads), perm=[1, 0, 2]) for x in (query, key, value)
    )  # (heads, rows, head_dim)
    mean = b.op("ReduceMean", values, b.ints(1), keepdims=1)
    chunks = b.op("Div", b.op("Add", rows, b.ints(QUERY_CHUNK - 1)), b.ints(QUERY_CHUNK))
    steps, scales = _queries(b, queries, rows, chunks, heads)
    rounded = _keys(b, keys, scales, heads), _values(b, b.op("Sub", values, mean), heads)
    stacked = _loop(b, steps, *rounded, chunks, heads)
    attended = b.reshape(b.op("Transpose", stacked, perm=[0, 2, 1, 3]), -1, width)
    return b.op("Add", b.slice(attended, b.ints(0), rows, 0), b.reshape(mean, 1, width))


def _queries(b: Body, queries: str, rows: str, chunks: str, heads: tuple[int, int]) -> tuple[Value, Value]:
    """Integers in chunks, (chunks, heads, `QUERY_CHUNK`, head_dim), and the scale of each head, (heads,).

    Past the end the last row stands in, and is cut off later.
    """
    scales = scales_of(b, b.op("ReduceMax", b.op("Abs", queries), b.ints(1, 2), keepdims=0))
    steps = around(b, queries, scales, MIDDLE_OF_UINT8, np.uint8, f"{b.prefix}queries")
    end = b.op("Squeeze", b.op("Mul", chunks, b.ints(QUERY_CHUNK)), b.ints(0))
    places = b.op("Min", b.op("Range", b.const(0), end, b.const(1)), b.op("Sub", rows, b.ints(1)))
    steps = b.reshape(b.op("Gather", steps, places, axis=1), heads[0], -1, QUERY_CHUNK, heads[1])
    return b.op("Transpose", steps, perm=[1, 0, 2, 3]), scales


def _keys(b: Body, keys: str, of_queries: str, heads: tuple[int, int]) -> _Rounded:
    """Without their mean; the scales of queries (heads,) and of scores are in theirs."""
    num_heads, head_dim = heads
    keys = b.op("Sub", keys, b.op("ReduceMean", keys, b.ints(1), keepdims=1))
    keys = b.reshape(keys, -1, head_dim)
    scales = scales_of(b, b.op("ReduceMax", b.op("Abs", keys), b.ints(1), keepdims=0), KEY_STEPS)
    steps = b.reshape(around(b, keys, scales, 0, np.int8, f"{b.prefix}keys"), num_heads, -1, head_dim)
    scales = b.op("Mul", scales, b.const(head_dim**-0.5, np.float32))
    scales = b.op("Mul", b.reshape(scales, num_heads, 1, -1), b.reshape(of_queries, -1, 1, 1))
    return _Rounded(b.op("Transpose", steps, perm=[0, 2, 1]), scales)


def _values(b: Body, values: str, heads: tuple[int, int]) -> _Rounded:
    """Those without their mean, (heads, rows, head_dim)."""
    num_heads, head_dim = heads
    columns = b.op("Transpose", values, perm=[0, 2, 1])
    columns = b.reshape(columns, num_heads * head_dim, -1)
    scales = scales_of(b, b.op("ReduceMax", b.op("Abs", columns), b.ints(1), keepdims=0))
    steps = b.reshape(around(b, columns, scales, 0, np.int8, f"{b.prefix}values"), num_heads, head_dim, -1)
    return _Rounded(b.op("Transpose", steps, perm=[0, 2, 1]), b.reshape(scales, num_heads, 1, head_dim))


def _loop(
    b: Body, queries: str, keys: _Rounded, values: _Rounded, chunks: str, heads: tuple[int, int]
) -> Value:
    """What the queries of each chunk attend to: (chunks, heads, `QUERY_CHUNK`, head_dim)."""
    step = Body(f"{b.prefix}step_")
    chunk = step.op("Gather", queries, f"{step.prefix}i", axis=0)
    scores = _product(step, chunk, keys, MIDDLE_OF_UINT8, f"{step.prefix}scores")
    attended = _attended(step, step.op("Softmax", scores, axis=-1), values, heads[0])
    inputs = [value_info(f"{step.prefix}i", INT64, []), value_info(f"{step.prefix}go", BOOL, [])]
    outputs = [value_info(attended, FLOAT, [heads[0], QUERY_CHUNK, heads[1]])]
    return b.loop(chunks, step, inputs, outputs)[0]


def _attended(b: Body, shares: str, values: _Rounded, num_heads: int) -> Value:
    """(heads, queries, head_dim); the largest share of a query is never 0."""
    shares = b.reshape(shares, num_heads * QUERY_CHUNK, -1)
    largest = b.op("ReduceMax", shares, b.ints(1), keepdims=0)
    scales = b.op("Mul", largest, b.const(1 / SHARE_STEPS, np.float32))
    zeros = b.const(np.zeros(num_heads * QUERY_CHUNK), np.uint8)
    steps = b.op("QuantizeLinear", shares, scales, zeros, name=f"{b.prefix}shares", axis=0)
    steps = b.reshape(steps, num_heads, QUERY_CHUNK, -1)
    product = _product(b, steps, values, 0, f"{b.prefix}attended")
    return b.op("Mul", product, b.reshape(scales, num_heads, QUERY_CHUNK, 1))


def _product(b: Body, steps: str, rounded: _Rounded, middle: int, name: str) -> Value:
    """Of uint8 around a middle, and of keys or values; with the scales of these."""
    return b.op(
        "MatMulIntegerToFloat",
        *(steps, rounded.steps, b.const(1, np.float32), rounded.scales, b.const(middle, np.uint8)),
        name=name,
        domain=CONTRIB,
    )
