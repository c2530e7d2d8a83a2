"""Causal attention from standard ONNX ops: a Loop over query chunks, one key/value head at a time.

A chunk of queries meets only the keys up to its own end, so half of the work of a masked attention is
never done, and the scores of one chunk are the largest tensor. The column sums of the probabilities are
computed in the loop while each chunk is in memory: a row of ones times the chunk.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from ..body import BOOL, FLOAT, INT64, Body, function, value
from .op import ATTENTION, ATTENTION_HEAD_MASS, ATTENTION_MASS, LAST_QUERY_MASS, QUERY_CHUNK

NEVER = -1e30
INPUTS = ("query", "key", "value")


def causal_attention(num_heads: int, num_kv_heads: int, head_dim: int) -> onnx.FunctionProto:
    """`CausalAttention` for one head layout."""
    body = Body()
    append_attention(body, (num_heads, num_kv_heads, head_dim), INPUTS, ["output"])
    return function(ATTENTION, INPUTS, ["output"], body)


def causal_attention_mass(num_heads: int, num_kv_heads: int, head_dim: int) -> onnx.FunctionProto:
    """`CausalAttentionMass` for one head layout."""
    body = Body()
    append_attention(body, (num_heads, num_kv_heads, head_dim), INPUTS, ["output", "mass"])
    return function(ATTENTION_MASS, INPUTS, ["output", "mass"], body)


def causal_attention_head_mass(num_heads: int, num_kv_heads: int, head_dim: int) -> onnx.FunctionProto:
    """`CausalAttentionHeadMass` for one head layout."""
    body = Body()
    heads = num_heads, num_kv_heads, head_dim
    append_attention(body, heads, INPUTS, ["output", "mass"], mass_by_head=True)
    return function(ATTENTION_HEAD_MASS, INPUTS, ["output", "mass"], body)


def last_query_mass(num_heads: int, num_kv_heads: int, head_dim: int) -> onnx.FunctionProto:
    """`LastQueryMass` for one head layout."""
    b = Body()
    last = b.op("Gather", "query", b.ints(-1), axis=0)
    append_last_query_mass(b, (num_heads, num_kv_heads, head_dim), last, "key", ["mass"])
    return function(LAST_QUERY_MASS, ["query", "key"], ["mass"], b)


def append_last_query_mass(
    b: Body, heads: tuple[int, int, int], last: str, key: str, outputs: Sequence[str] | int = 1
) -> str:
    """Append the nodes; the last query row (1, heads * head_dim) and the key are float32.

    The products are scaled, not the query: what came from 16 bits is exact in the matrix units of a GPU.
    """
    num_heads, kv_heads, head_dim = heads
    q = b.reshape(last, kv_heads, num_heads // kv_heads, head_dim)
    scores = b.op("MatMul", q, b.op("Transpose", key, perm=[0, 2, 1]))  # (kv_heads, group, rows)
    scores = b.op("Mul", scores, b.const(head_dim**-0.5, np.float32))
    probabilities = b.op("Softmax", scores, axis=-1)
    return b.op("ReduceSum", probabilities, b.ints(0, 1), keepdims=0, outputs=outputs)


def append_attention(
    b: Body,
    heads: tuple[int, int, int],
    inputs: Sequence[str],
    outputs: Sequence[str],
    mass_by_head: bool = False,
) -> None:
    """Append the nodes themselves: what a backend does that loses by the call of a function.

    Args:
        b: where to; its prefix starts every name.
        heads: query heads, key/value heads, head_dim.
        inputs: names of query, key and value.
        outputs: names of the output and, if there are two, the mass.
        mass_by_head: give the mass of each key/value head, (kv_heads, rows), instead of their sum, (rows,).
    """
    num_heads, kv_heads, head_dim = heads
    query, key, val = inputs
    rows = b.dim(query, 0)
    chunks = b.op("Div", b.op("Add", rows, b.ints(QUERY_CHUNK - 1)), b.ints(QUERY_CHUNK))
    padded = b.op("Mul", chunks, b.ints(QUERY_CHUNK))
    pads = b.shape(0, 0, 0, 0, b.op("Sub", padded, rows), 0)
    loop, wants_mass = _ChunkLoop(num_heads // kv_heads, kv_heads, head_dim, mass_by_head), len(outputs) > 1
    key, val = b.op("Pad", key, pads), b.op("Pad", val, pads)
    stacked = loop.append(b, query, key, val, rows, chunks, padded, wants_mass)
    y = b.reshape(stacked[-1], -1, kv_heads, QUERY_CHUNK, loop.width)
    y = b.reshape(b.op("Transpose", y, perm=[0, 2, 1, 3]), -1, kv_heads * loop.width)
    for name, whole, axis in zip(outputs, (y, stacked[0]), (0, int(mass_by_head)), strict=False):
        b.op("Slice", whole, b.ints(0), rows, b.ints(axis), outputs=[name])


class _ChunkLoop:
    """The Loop over (chunk, key/value head), head innermost."""

    def __init__(self, group: int, kv_heads: int, head_dim: int, mass_by_head: bool) -> None:
        self.group, self.kv_heads, self.head_dim = group, kv_heads, head_dim
        self.mass_by_head = mass_by_head
        self.width = group * head_dim
        self.score_rows = group * QUERY_CHUNK

    def append(
        self, b: Body, query: str, key: str, val: str, rows: str, chunks: str, padded: str, mass: bool
    ) -> Sequence[str]:
        """The stacked chunk outputs (chunks * kv_heads, QUERY_CHUNK, width), after the column sums."""
        step = Body(f"{b.prefix}step_")
        head, start, end = self._bounds(step)
        q = self._queries(step, query, head, start, rows)
        scores = step.op("MatMul", q, step.op("Transpose", self._rows(step, key, head, end), perm=[0, 2, 1]))
        probabilities, shapes = self._probabilities(step, scores, start, self._diagonal(b))
        out = self._merge_heads(step, step.op("MatMul", probabilities, self._rows(step, val, head, end)))
        inputs = [value(f"{step.prefix}i", INT64, []), value(f"{step.prefix}go", BOOL, [])]
        outputs = [value(out, FLOAT, [QUERY_CHUNK, self.width])]
        carried = []
        if mass:
            axes = [self.kv_heads, None] if self.mass_by_head else [None]
            shape = b.shape(self.kv_heads, padded) if self.mass_by_head else padded
            carried = [b.op("ConstantOfShape", shape)]  # float zeros
            sums = self._column_sums(step, probabilities, start, end, rows, padded)
            inputs.append(value(f"{step.prefix}mass", FLOAT, axes))
            outputs.insert(0, value(self._add_mass(step, sums, head), FLOAT, axes))
        trips = b.op("Mul", chunks, b.ints(self.kv_heads))
        return b.loop(trips, step, inputs, outputs, carried, shapes)

    def _bounds(self, b: Body) -> tuple[str, str, str]:
        """This iteration's head and its query rows [start, end), each int64 of shape (1,)."""
        i, heads = b.op("Reshape", f"{b.prefix}i", b.ints(1)), b.ints(self.kv_heads)
        start = b.op("Mul", b.op("Div", i, heads), b.ints(QUERY_CHUNK))
        return b.op("Mod", i, heads), start, b.op("Add", start, b.ints(QUERY_CHUNK))

    def _queries(self, b: Body, query: str, head: str, start: str, rows: str) -> str:
        """(1, group * QUERY_CHUNK, head_dim); past the end the last row stands in and is cut off later."""
        wanted = b.op("Add", start, b.const(np.arange(QUERY_CHUNK)))
        index = b.op("Min", wanted, b.op("Sub", rows, b.ints(1)))
        left = b.op("Mul", head, b.ints(self.width))
        chunk = b.op("Gather", query, index, axis=0)
        chunk = b.slice(chunk, left, b.op("Add", left, b.ints(self.width)), 1)
        scaled = b.op("Mul", chunk, b.const(self.head_dim**-0.5, np.float32))
        split = b.reshape(scaled, QUERY_CHUNK, self.group, self.head_dim)
        return b.reshape(b.op("Transpose", split, perm=[1, 0, 2]), 1, self.score_rows, self.head_dim)

    def _rows(self, b: Body, cache: str, head: str, end: str) -> str:
        """Rows [0, end) of one head: (1, end, head_dim)."""
        starts, ends = b.shape(head, 0), b.shape(b.op("Add", head, b.ints(1)), end)
        return b.op("Slice", cache, starts, ends, b.ints(0, 1))

    def _diagonal(self, b: Body) -> tuple[str, str]:
        """The last QUERY_CHUNK columns of a score row, counted from its first query, and their mask."""
        shape = (1, self.score_rows, QUERY_CHUNK)
        mask = np.where(np.tri(QUERY_CHUNK, dtype=bool), 0, NEVER)
        mask = np.broadcast_to(mask, (1, self.group, QUERY_CHUNK, QUERY_CHUNK)).reshape(shape)
        columns = np.broadcast_to(np.arange(QUERY_CHUNK), shape)
        return b.const(columns), b.const(mask, np.float32)

    def _probabilities(
        self, b: Body, scores: str, start: str, diagonal: tuple[str, str]
    ) -> tuple[str, list[onnx.ValueInfoProto]]:
        """Softmax over the visible keys: (1, group * QUERY_CHUNK, end).

        Only the last QUERY_CHUNK columns hold hidden keys, so only their mask is added. The shape annotations
        tell the runtime that it may do so in place; inside a called function they get lost, and it copies.
        """
        columns, mask = diagonal
        index = b.op("Add", columns, start)
        masked = b.op("ScatterElements", scores, index, mask, axis=2, reduction="add")
        probabilities = b.op("Softmax", masked, axis=-1)
        shape = (1, self.score_rows, "visible")
        return probabilities, [value(name, FLOAT, shape) for name in (scores, masked, probabilities)]

    def _merge_heads(self, b: Body, out: str) -> str:
        """(1, group * QUERY_CHUNK, head_dim) -> (QUERY_CHUNK, width)."""
        split = b.reshape(out, self.group, QUERY_CHUNK, self.head_dim)
        return b.reshape(b.op("Transpose", split, perm=[1, 0, 2]), QUERY_CHUNK, self.width)

    def _column_sums(self, b: Body, probabilities: str, start: str, end: str, rows: str, padded: str) -> str:
        """The column sums of this chunk, filled up with zeros: (padded,); rows past the end count nothing."""
        row = b.op("Add", start, b.const(np.arange(QUERY_CHUNK)))
        ones = b.op("Cast", b.op("Less", row, rows), to=FLOAT)
        ones = b.reshape(b.op("Tile", ones, b.ints(self.group)), 1, 1, self.score_rows)
        sums = b.reshape(b.op("MatMul", ones, probabilities), -1)  # (end,)
        return b.op("Pad", sums, b.shape(0, b.op("Sub", padded, end)))

    def _add_mass(self, b: Body, sums: str, head: str) -> str:
        """The carried column sums and these: into the row of this head, or all heads together."""
        mass = f"{b.prefix}mass"
        if not self.mass_by_head:
            return b.op("Add", mass, sums)
        row, sums = b.reshape(head, 1, 1), b.reshape(sums, 1, -1)
        return b.op("ScatterND", mass, row, sums, reduction="add")
