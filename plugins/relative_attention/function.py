"""Gated attention with relative positions from standard ONNX nodes, a chunk of queries at a time.

The bias of all pairs would be heads * rows^2 numbers: 7 GB for four minutes at 50 rows a second. It depends
on distance alone, so the rows of one chunk of queries are windows of one skewed table,

    skewed[head, i, m] = bias[head, m - i - last],     i a query of a chunk, last the start of the last chunk,

which a graph makes once for all of its layers: the chunk that starts at row s reads the columns from last - s
on, one for each key. Queries past the end stand in to fill the last chunk, and are cut off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from ..body import BOOL, FLOAT, INT64, Body, Value, value

QUERY_CHUNK = 64  # rows


@dataclass(frozen=True)
class Chunks:
    """Queries in chunks of equal length; int64 values of shape (1,) but for `index`."""

    rows: Value  # of queries and keys
    length: Value  # of a chunk
    count: Value
    last: Value  # where the last chunk starts
    index: Value  # (count * length,) the row of each query; past the end, the last one


@dataclass(frozen=True)
class SkewedBias:
    """What all layers read."""

    chunks: Chunks
    table: Value  # (heads, length, last + rows)


def append_skewed_bias(b: Body, bias: str, reach: int, rows: Value, count: int | None = None) -> SkewedBias:
    """Append the nodes that make the table of a graph.

    Args:
        b: where to.
        bias: name of (heads, 2 * reach + 1).
        reach: the distance beyond which it stays the same.
        rows: how many there are, int64 of shape (1,).
        count: how many chunks; None for as many of `QUERY_CHUNK` rows as it takes.
    """
    chunks = _chunks(b, rows, count)
    column = b.range(b.op("Add", chunks.last, rows))
    distance = b.op("Sub", b.op("Sub", column, chunks.last), b.reshape(b.range(chunks.length), -1, 1))
    clipped = b.op("Min", b.op("Max", distance, b.ints(-reach)), b.ints(reach))
    table = b.op("Gather", bias, b.op("Add", clipped, b.ints(reach)), axis=1)
    return SkewedBias(chunks, table)


def append_in_chunks(b: Body, chunks: Chunks, x: str, num_heads: int, width: int) -> Value:
    """Rows (rows, heads * width) of queries as (heads, count, length, width)."""
    filled = b.op("Gather", x, chunks.index, axis=0)
    split = b.reshape(filled, chunks.count, chunks.length, num_heads, width)
    return b.op("Transpose", split, perm=[2, 0, 1, 3])


def append_relative_attention(
    b: Body, heads: tuple[int, int], query: str, key: str, val: str, gate: str, skewed: SkewedBias
) -> Value:
    """Append the attention of one layer, as loops over heads and chunks: (rows, heads * head_dim).

    Args:
        b: where to; its prefix starts every name.
        heads: their number, and head_dim.
        query: name of the rows, (rows, heads * head_dim), as those of key and val.
        key: see query.
        val: see query.
        gate: name of (rows, heads).
        skewed: of the graph.
    """
    num_heads, head_dim = heads
    chunks = skewed.chunks
    scaled = b.op("Mul", query, b.const(head_dim**-0.5, np.float32))
    q = append_in_chunks(b, chunks, scaled, num_heads, head_dim)
    gates = append_in_chunks(b, chunks, gate, num_heads, 1)
    k = b.op("Transpose", b.reshape(key, -1, num_heads, head_dim), perm=[1, 2, 0])
    v = b.op("Transpose", b.reshape(val, -1, num_heads, head_dim), perm=[1, 0, 2])
    head = Body(f"{b.prefix}head_")
    of_head = [head.op("Gather", x, f"{head.prefix}i", axis=0) for x in (q, k, v, gates, skewed.table)]
    chunk = Body(f"{b.prefix}chunk_")
    out, shapes = _chunk(chunk, of_head, chunks)
    typed = [value(out, FLOAT, [None, head_dim])]
    (stacked,) = head.loop(chunks.count, chunk, _counters(chunk), typed, shapes=shapes)
    y = head.reshape(stacked, -1, head_dim)
    (y,) = b.loop(b.ints(num_heads), head, _counters(head), [value(y, FLOAT, [None, head_dim])])
    y = b.slice(b.op("Transpose", y, perm=[1, 0, 2]), b.ints(0), chunks.rows, 0)
    return b.reshape(y, -1, num_heads * head_dim)


def _chunk(b: Body, of_head: list[Value], chunks: Chunks) -> tuple[Value, list[onnx.ValueInfoProto]]:
    """The rows of one chunk of one head: (length, head_dim).

    The shape annotations tell the runtime that it may add and take the softmax in place.
    """
    q, k, v, gates, table = of_head
    q, gate = (b.op("Gather", x, f"{b.prefix}i", axis=0) for x in (q, gates))
    start = b.op("Sub", chunks.last, b.op("Mul", b.reshape(f"{b.prefix}i", 1), chunks.length))
    bias = b.slice(table, start, b.op("Add", start, chunks.rows), 1)
    gated = b.op("Mul", bias, gate)
    scores = b.op("MatMul", q, k)
    biased = b.op("Add", scores, gated)
    probabilities = b.op("Softmax", biased, axis=-1)
    shape = (f"{b.prefix}length", f"{b.prefix}keys")
    shapes = [value(name, FLOAT, shape) for name in (bias, gated, scores, biased, probabilities)]
    return b.op("MatMul", probabilities, v), shapes


def _chunks(b: Body, rows: Value, count: int | None) -> Chunks:
    if count is None:
        length = b.ints(QUERY_CHUNK)
        number = b.op("Div", b.op("Add", rows, b.ints(QUERY_CHUNK - 1)), length)
    else:
        number = b.ints(count)
        length = b.op("Div", b.op("Add", rows, b.ints(count - 1)), number)
    padded = b.op("Mul", number, length)
    index = b.op("Min", b.range(padded), b.op("Sub", rows, b.ints(1)))
    return Chunks(rows, length, number, b.op("Sub", padded, length), index)


def _counters(b: Body) -> list[onnx.ValueInfoProto]:
    return [value(f"{b.prefix}i", INT64, []), value(f"{b.prefix}go", BOOL, [])]
