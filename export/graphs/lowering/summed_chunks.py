"""Causal attention whose columns are summed, for OpenVINO: chunks of queries that leave their memory behind.

OpenVINO does not fuse a chunk whose columns are summed: its scores are tensors. It gives the memory of a
tensor of unknown size to the first later one that begins when nobody needs the former any more, whatever
their sizes are. So a small tensor that outlives its chunk takes the memory of large ones from the next chunk,
which then needs more. Hence here

* what outlives a chunk is there before the first one: output and sums, which every chunk writes into;
* a chunk begins when all of the one before has ended: where it starts depends on the sums so far;
* keys and values are cut before the scores, and the mask is there before them.

Then all chunks of all layers share two blocks, each as large as the scores of the largest chunk in float32.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx

from ....plugins.body import Body, Value
from ....profiles.flops import DecoderDims

HIDDEN = -1e30  # added to the score of a key after its query


def causal_mask(b: Body, queries: str, keys: str, seen: str) -> Value:
    """What hides the keys after each of the queries, and `seen` for all others: (queries, keys)."""
    after = b.op("Less", b.op("Unsqueeze", queries, b.ints(1)), keys)
    return b.op("Where", after, b.const(HIDDEN, np.float32), seen)


def positions(b: Body, start: str, end: str) -> Value:
    """The numbers of the rows [start, end), which are given as int64 of shape (1,)."""
    first, last = (b.op("Squeeze", bound, b.ints(0)) for bound in (start, end))
    return b.op("Range", first, last, b.const(1))


class SummedAttention:
    """Causal attention to one prompt, a chunk of queries after the other, each over the keys up to its end.

    A short prompt has chunks without rows.
    """

    def __init__(self, b: Body, dims: DecoderDims, by_head: bool) -> None:
        """`by_head`: sum the columns of each KV head, instead of all heads together."""
        self.b, self.dims, self._by_head = b, dims, by_head

    def of(self, query: str, key: str, value: str, ends: Iterable[Value]) -> tuple[Value, Value]:
        """Output, as the rows are, and column sums: (rows,), or (kv_heads, rows).

        Args:
            query: rows (rows, heads * head_dim).
            key: in KV layout.
            value: the same.
            ends: of the chunks, int64 of shape (1,).
        """
        b, dims = self.b, self.dims
        rows, group = b.dim(query, 0), dims.num_heads // dims.num_kv_heads
        scaled = b.op("Mul", query, b.const(dims.head_dim**-0.5, np.float32))
        q = b.reshape(scaled, -1, dims.num_kv_heads, group, dims.head_dim)
        q = b.op("Transpose", q, perm=[1, 2, 0, 3])
        both = b.op("Unsqueeze", b.op("Concat", key, value, axis=0), b.ints(1))
        output = self._zeros(rows, dims.num_heads * dims.head_dim)
        sums = self._zeros(dims.num_kv_heads, rows) if self._by_head else self._zeros(rows)
        start, end_before = b.ints(0), b.ints(0)
        for i, end in enumerate(ends):
            if i:
                start = self._once_summed(sums, end_before)
            queries, keys = positions(b, start, end), positions(b, b.ints(0), end)
            part, shares = self._chunk(
                b.slice(q, start, end, 2), b.slice(both, b.ints(0), end, 2), queries, keys
            )
            output = b.op("ScatterND", output, b.op("Unsqueeze", queries, b.ints(1)), part)
            sums, end_before = self._with_columns(sums, shares, keys), end
        return output, sums

    def _zeros(self, *shape: int | Value) -> Value:
        b = self.b
        return b.op("Expand", b.const(np.zeros([1] * len(shape)), np.float32), b.shape(*shape))

    def _once_summed(self, sums: str, end: Value) -> Value:
        """`end`, known when the sums are. At their copy OpenVINO lets go of the chunk before."""
        b = self.b
        least = b.op("ReduceMin", b.slice(sums, b.ints(0), end, int(self._by_head)), keepdims=0)
        nothing = b.op("Cast", b.op("Min", least, b.const(0, np.float32)), to=onnx.TensorProto.INT64)
        return b.op("Add", end, nothing)

    def _chunk(self, q: str, both: str, queries: str, keys: str) -> tuple[Value, Value]:
        """Output (queries, heads * head_dim) and shares (kv_heads, group, queries, keys)."""
        b, dims = self.b, self.dims
        mask = causal_mask(b, queries, keys, b.const(0, np.float32))
        k, v = b.ops("Split", both, axis=0, num_outputs=2, outputs=2)
        scores = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2]))
        shares = b.op("Softmax", b.op("Add", mask, scores), axis=-1)
        part = b.op("Transpose", b.op("MatMul", shares, v), perm=[2, 0, 1, 3])
        return b.reshape(part, -1, dims.num_heads * dims.head_dim), shares

    def _with_columns(self, sums: str, shares: str, keys: str) -> Value:
        b = self.b
        axes = (1, 2) if self._by_head else (0, 1, 2)
        columns = b.op("ReduceSum", shares, b.ints(*axes), keepdims=0)
        place = b.op("Expand", keys, b.shape(self.dims.num_kv_heads, 1)) if self._by_head else keys
        return b.op("ScatterElements", sums, place, columns, axis=int(self._by_head), reduction="add")
