"""Lowering for ONNX Runtime's CUDA provider: fused attention, residual norms in one kernel, no Loop.

A Loop would go back to the host at every round, so nodes are written out, and what is large is cut into a
number of parts that is fixed when the graph is built. Reductions are standard ops (there are no plugins);
lengths follow from shapes, for all methods but A-ToMe. Which operators have kernels in which types is in
`docs/gpu.md`; a test holds that no other one is used.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ....plugins.body import FLOAT, Body, Value
from ....profiles.flops import DecoderDims
from ...checkpoint.derived import Weight
from ...checkpoint.precision import FP32, Precision
from ...checkpoint.quantized import Int8Blocks, QuantizedBlocks, QuantizedWeight
from ..graph import Graph, Rounding
from .onnxruntime import CONTRIB, product_in_blocks, skip_norm
from .unrolled import SCORE_BYTES, UnrolledLowering

HIDDEN = -1e30  # added to the score of a key after its query


class OnnxRuntimeCudaLowering(UnrolledLowering):
    """Kernels of ONNX Runtime's own domain; a decode step writes its rows into the pool in place."""

    name = "onnxruntime-cuda"
    normalises_over_time = False  # the provider has a kernel, and still leaves such nodes to the CPU
    pools_in_place = True
    domains: tuple[str, ...] = (CONTRIB,)

    def __init__(
        self, precision: Precision, max_audio_rows: int, max_rows: int, score_bytes: int = SCORE_BYTES
    ) -> None:
        """How long audio and prompt may be decides into how many parts attention is cut.

        Args:
            precision: of the graphs.
            max_audio_rows: the longest `audio_embeds`.
            max_rows: the longest prompt.
            score_bytes: the most that scores of attention may take at once, where they are needed.
        """
        super().__init__(precision, max_audio_rows)
        self.max_rows, self.score_bytes = max_rows, score_bytes

    def quantized_product(
        self, g: Graph, x: str, weight: QuantizedWeight, name: str, rounding: Rounding, **output: Any
    ) -> Value:
        """The kernel widens a block as it reads it; rows keep the numbers of the graph."""
        assert isinstance(weight, QuantizedBlocks | Int8Blocks), "a model is quantised for its target"
        return product_in_blocks(g, x, weight, name, **output)

    def add_norm(
        self, g: Graph, name: str, residual: str, branch: str, weight: Weight, eps: float
    ) -> tuple[str, str]:
        """One fused kernel."""
        return skip_norm(g, name, residual, branch, weight, eps)

    def causal_attention_mass(
        self, g: Graph, name: str, dims: DecoderDims, query: str, key: str, value: str, by_head: bool = False
    ) -> tuple[str, str]:
        """Fused attention, and the column sums from a second pass, a chunk of queries after the other."""
        out = self.causal_attention(g, name, dims, query, key, value)
        scores = dims.num_heads * self.max_rows**2 * FP32.item_bytes
        count = max(1, math.ceil(scores / self.score_bytes))
        return out, _ColumnSums(Body(f"{name}/mass_", within=g), g, dims, count, by_head).of(query, key)


class _ColumnSums:
    """Column sums of causal attention, in float32: (rows,), or those of each KV head, (kv_heads, rows).

    What came from 16 bits keeps all of them in the matrix units of a GPU. A chunk of queries meets only the
    keys up to its own end. Queries past the end of the last chunk stand in to fill it, and count nothing.
    """

    def __init__(self, b: Body, g: Graph, dims: DecoderDims, count: int, by_head: bool) -> None:
        self.b, self.g, self.dims, self.count, self.by_head = b, g, dims, count, by_head

    def of(self, query: str, key: str) -> Value:
        """Of queries (rows, heads * head_dim) and keys in KV layout."""
        b = self.b
        rows = b.dim(query, 0)
        length = b.op("Div", b.op("Add", rows, b.ints(self.count - 1)), b.ints(self.count))
        columns = b.op("Transpose", self.g.to_float(key), perm=[0, 2, 1])
        total = self._of_chunk(0, query, columns, rows, length)
        for i in range(1, self.count):
            total = b.op("Add", total, self._of_chunk(i, query, columns, rows, length))
        return total

    def _of_chunk(self, i: int, query: str, columns: str, rows: str, length: str) -> Value:
        """What the queries of one chunk add to the sums."""
        b = self.b
        start = b.op("Mul", b.ints(i), length)
        place = b.op("Add", b.range(length), start)
        held = b.op("Min", place, b.op("Sub", rows, b.ints(1)))
        end = b.op("Min", b.op("Add", start, length), rows)
        scores = b.op("MatMul", self._queries(query, held), b.slice(columns, b.ints(0), end, 2))
        scores = b.op("Mul", scores, b.const(self.dims.head_dim**-0.5, np.float32))
        by_query = b.reshape(scores, self.dims.num_heads, length, end)
        probabilities = b.op("Softmax", b.op("Add", by_query, self._mask(held, end)), axis=-1)
        by_group = b.reshape(probabilities, self.dims.num_kv_heads, -1, end)
        counted = b.op("Cast", b.op("Less", place, rows), to=FLOAT)
        counted = b.op("Tile", counted, b.ints(self.dims.num_heads // self.dims.num_kv_heads))
        sums = b.op("MatMul", b.op("Unsqueeze", counted, b.ints(0)), by_group)  # (kv_heads, 1, end)
        return self._filled(sums, b.op("Sub", rows, end))

    def _queries(self, query: str, rows: str) -> Value:
        """Some rows, the heads of a group side by side: (kv_heads, group * length, head_dim)."""
        b, heads, kv_heads, width = self.b, self.dims.num_heads, self.dims.num_kv_heads, self.dims.head_dim
        chunk = self.g.to_float(b.op("Gather", query, rows, axis=0))
        split = b.op("Transpose", b.reshape(chunk, -1, heads, width), perm=[1, 0, 2])
        return b.reshape(split, kv_heads, -1, width)

    def _mask(self, held: str, end: str) -> Value:
        """What hides the keys after each query: (length, end)."""
        b = self.b
        after = b.op("Less", b.op("Unsqueeze", held, b.ints(1)), b.range(end))
        return b.op("Where", after, b.const(HIDDEN, np.float32), b.const(0, np.float32))

    def _filled(self, sums: str, missing: str) -> Value:
        """The sums with zeros for the keys after the chunk."""
        b = self.b
        if self.by_head:
            return b.op("Pad", b.op("Squeeze", sums, b.ints(1)), b.shape(0, 0, 0, missing))
        return b.op("Pad", b.op("ReduceSum", sums, b.ints(0, 1), keepdims=0), b.shape(0, missing))
