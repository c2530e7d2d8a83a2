"""Lowering for OpenVINO: plain ONNX without functions, Loops or contrib ops; attention in unrolled chunks.

What a Loop repeats OpenVINO runs as a graph within a graph, one round after the other, and does not fuse. So
queries are cut into a number of chunks that is fixed when the graph is built. Each meets the keys up to its
own end alone, which saves almost half of the products, and no more scores than those of one chunk exist at
once. Where columns are summed OpenVINO does not fuse a chunk: its products are ones of their own, made anew
for each new shape, which takes more than to compute them where every layer has its own number of rows. So
there all chunks but the last have the same shape in every prompt and layer (and see `summed_chunks.py`).
Decode steps are no part of this: they stay with ONNX Runtime (`for_steps`), which is faster at many small
products.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ....plugins.body import Body, Value
from ....plugins.causal_attention.op import summed_ends, unrolled_chunks
from ....profiles.flops import DecoderDims
from ...checkpoint.precision import FP32
from ...checkpoint.quantized import Int8Blocks, QuantizedBlocks, QuantizedRows, QuantizedWeight
from ..graph import Graph, Rounding
from .lowering import Lowering
from .onnxruntime import OnnxRuntimeLowering, product_in_blocks
from .summed_chunks import SummedAttention, causal_mask, positions
from .unrolled import UnrolledLowering


class OpenVinoLowering(UnrolledLowering):
    """Standard ops alone, in float32; OpenVINO itself computes them in bf16 where it is told to."""

    name = "openvino"

    def __init__(self, max_audio_rows: int, max_rows: int) -> None:
        """How long audio and prompt may be decides into how many chunks attention is cut."""
        super().__init__(FP32, max_audio_rows)
        self.chunks, self.summed_ends = unrolled_chunks(max_rows), summed_ends(max_rows)

    @property
    def for_steps(self) -> Lowering:
        """ONNX Runtime's."""
        return OnnxRuntimeLowering()

    def quantized_product(
        self, g: Graph, x: str, weight: QuantizedWeight, name: str, rounding: Rounding, **output: Any
    ) -> Value:
        """OpenVINO reads a matrix in fewer bits where it lies; rows keep the numbers of the graph."""
        if isinstance(weight, QuantizedRows):
            values, scales = g.weight(weight.values), g.weight(weight.scales)
            matrix = g.op("DequantizeLinear", values, scales, name=f"{name}/weight", axis=1)
            return g.op("MatMul", x, matrix, name=name, **output)
        assert isinstance(weight, QuantizedBlocks | Int8Blocks), "a model is quantised for its target"
        return product_in_blocks(g, x, weight, name, **output)

    def causal_attention(
        self, g: Graph, name: str, dims: DecoderDims, query: str, key: str, value: str
    ) -> str:
        """A product, a softmax and a product for each chunk of queries, which OpenVINO fuses."""
        b = Body(f"{name}/", within=g)
        return _ChunkedAttention(b, dims).of(query, key, value, _shares(b, b.dim(query, 0), self.chunks))

    def causal_attention_mass(
        self, g: Graph, name: str, dims: DecoderDims, query: str, key: str, value: str, by_head: bool = False
    ) -> tuple[str, str]:
        """The same, with the sums of what each softmax gives; OpenVINO does not fuse these."""
        b = Body(f"{name}/", within=g)
        ends = _up_to(b, b.dim(query, 0), self.summed_ends)
        return SummedAttention(b, dims, by_head).of(query, key, value, ends)


class _ChunkedAttention:
    """Causal attention to one prompt, a chunk of queries after the other, each over the keys up to its end.

    A short prompt has chunks without rows.
    """

    def __init__(self, b: Body, dims: DecoderDims) -> None:
        self.b, self.dims = b, dims

    def of(self, query: str, key: str, value: str, ends: Iterable[Value]) -> Value:
        """Of rows (rows, heads * head_dim) and KV layout, with the ends of the chunks; as the rows are."""
        b, heads, kv_heads, width = self.b, self.dims.num_heads, self.dims.num_kv_heads, self.dims.head_dim
        scaled = b.op("Mul", query, b.const(width**-0.5, np.float32))
        q = b.reshape(scaled, -1, kv_heads, heads // kv_heads, width)
        q = b.op("Transpose", q, perm=[1, 2, 0, 3])
        k = b.op("Unsqueeze", b.op("Transpose", key, perm=[0, 2, 1]), b.ints(1))
        v = b.op("Unsqueeze", value, b.ints(1))
        start, parts = b.ints(0), []
        for end in ends:
            scores = b.op("MatMul", b.slice(q, start, end, 2), b.slice(k, b.ints(0), end, 3))
            shares = b.op("Softmax", b.op("Add", scores, self._mask(start, end)), axis=-1)
            parts.append(b.op("MatMul", shares, b.slice(v, b.ints(0), end, 2)))
            start = end
        out = b.op("Transpose", b.op("Concat", *parts, axis=2), perm=[2, 0, 1, 3])
        return b.reshape(out, -1, heads * width)

    def _mask(self, start: str, end: str) -> Value:
        b = self.b
        return causal_mask(b, positions(b, start, end), positions(b, b.ints(0), end), b.const(0, np.float32))


def _shares(b: Body, rows: Value, chunks: int) -> Iterator[Value]:
    """Where each of so many equal chunks ends."""
    yield from (b.op("Div", b.op("Mul", rows, b.ints(i)), b.ints(chunks)) for i in range(1, chunks))
    yield rows


def _up_to(b: Body, rows: Value, ends: Sequence[int]) -> Iterator[Value]:
    """Fixed ends of chunks, and `rows` for all behind it."""
    yield from (b.op("Min", rows, b.ints(end)) for end in ends[:-1])
    yield rows
