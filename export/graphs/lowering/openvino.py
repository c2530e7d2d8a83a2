"""Lowering for OpenVINO: plain ONNX without functions, Loops or contrib ops; attention in unrolled chunks.

What a Loop repeats OpenVINO runs as a graph within a graph, one round after the other, and does not fuse. So
queries are cut into a number of chunks that is fixed when the graph is built. Each meets the keys up to its
own end alone, which saves almost half of the products, and no more scores than those of one chunk exist at
once. Where columns are summed OpenVINO does not fuse a chunk: its products are ones of their own, made anew
for each new shape, which takes more than to compute them where every layer has its own number of rows. So
there all chunks but the last have the same shape in every prompt and layer. Decode steps are no part of this:
they stay with ONNX Runtime (`for_steps`), which is faster at many small products.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ....plugins.body import Body, Value
from ....plugins.causal_attention.op import summed_ends, unrolled_chunks
from ....profiles.flops import DecoderDims
from ...checkpoint.derived import Weight
from ...checkpoint.precision import FP32
from ...checkpoint.quantized import Int8Blocks, QuantizedBlocks, QuantizedRows, QuantizedWeight
from ..graph import Graph
from .lowering import Lowering
from .onnxruntime import OnnxRuntimeLowering, product_in_blocks
from .onnxruntime_cuda import OnnxRuntimeCudaLowering
from .tensorrt import TensorRTLowering

HIDDEN = -1e30  # added to the score of a key after its query


class OpenVinoLowering(OnnxRuntimeCudaLowering):
    """Standard ops alone, in float32; OpenVINO itself computes them in bf16 where it is told to."""

    name = "openvino"
    normalises_over_time = True
    domains: tuple[str, ...] = ()

    def __init__(self, max_audio_rows: int, max_rows: int) -> None:
        """How long audio and prompt may be decides into how many chunks attention is cut."""
        super().__init__(FP32, max_audio_rows, max_rows)
        self.chunks, self.summed_ends = unrolled_chunks(max_rows), summed_ends(max_rows)

    @property
    def for_steps(self) -> Lowering:
        """ONNX Runtime's."""
        return OnnxRuntimeLowering()

    def quantized_product(self, g: Graph, x: str, weight: QuantizedWeight, name: str, **output: Any) -> Value:
        """OpenVINO reads a matrix in fewer bits where it lies; rows keep the numbers of the graph."""
        if isinstance(weight, QuantizedRows):
            values, scales = g.weight(weight.values), g.weight(weight.scales)
            matrix = g.op("DequantizeLinear", values, scales, name=f"{name}/weight", axis=1)
            return g.op("MatMul", x, matrix, name=name, **output)
        assert isinstance(weight, QuantizedBlocks | Int8Blocks), "a model is quantised for its target"
        return product_in_blocks(g, x, weight, name, **output)

    def add_norm(
        self, g: Graph, name: str, residual: str, branch: str, weight: Weight, eps: float
    ) -> tuple[str, str]:
        """Two ops."""
        return TensorRTLowering.add_norm(self, g, name, residual, branch, weight, eps)

    def causal_attention(
        self, g: Graph, name: str, dims: DecoderDims, query: str, key: str, value: str
    ) -> str:
        """A product, a softmax and a product for each chunk of queries, which OpenVINO fuses."""
        b = Body(f"{name}/", within=g)
        return _ChunkedAttention(b, dims).of(query, key, value, _shares(b, b.dim(query, 0), self.chunks))

    def causal_attention_mass(
        self, g: Graph, name: str, dims: DecoderDims, query: str, key: str, value: str, by_head: bool = False
    ) -> tuple[str, str]:
        """The same, with the sums of what each softmax gives."""
        axes = (1, 2) if by_head else (0, 1, 2)
        b = Body(f"{name}/", within=g)
        attention, ends = _ChunkedAttention(b, dims, axes), _up_to(b, b.dim(query, 0), self.summed_ends)
        return attention.of(query, key, value, ends), attention.column_sums()


class _ChunkedAttention:
    """Causal attention to one prompt, a chunk of queries after the other, each over the keys up to its end.

    Where columns are summed, a chunk waits for the sums of the one before: otherwise OpenVINO puts these off,
    and keeps more scores. A short prompt has chunks without rows.
    """

    def __init__(self, b: Body, dims: DecoderDims, summed: Sequence[int] = ()) -> None:
        """`summed`: over which axes of (kv_heads, group, queries, keys) columns are, if they are at all."""
        self.b, self.dims, self._summed = b, dims, summed
        self._sums: list[Value] = []

    def of(self, query: str, key: str, value: str, ends: Iterable[Value]) -> Value:
        """Of rows (rows, heads * head_dim) and KV layout, with the ends of the chunks; as the rows are."""
        b, heads, kv_heads, width = self.b, self.dims.num_heads, self.dims.num_kv_heads, self.dims.head_dim
        scaled = b.op("Mul", query, b.const(width**-0.5, np.float32))
        q = b.reshape(scaled, -1, kv_heads, heads // kv_heads, width)
        q = b.op("Transpose", q, perm=[1, 2, 0, 3])
        k = b.op("Unsqueeze", b.op("Transpose", key, perm=[0, 2, 1]), b.ints(1))
        v = b.op("Unsqueeze", value, b.ints(1))
        rows, start, parts = b.dim(query, 0), b.ints(0), []
        for end in ends:
            scores = b.op("MatMul", b.slice(q, start, end, 2), b.slice(k, b.ints(0), end, 3))
            shares = b.op("Softmax", b.op("Add", scores, _mask(b, start, end, self._seen())), axis=-1)
            parts.append(b.op("MatMul", shares, b.slice(v, b.ints(0), end, 2)))
            start = end
            if self._summed:
                self._sum(shares, b.op("Sub", rows, end))
        out = b.op("Transpose", b.op("Concat", *parts, axis=2), perm=[2, 0, 1, 3])
        return b.reshape(out, -1, heads * width)

    def _seen(self) -> Value:
        """What is added to the score of a key that is seen: 0, once the chunk before has been summed."""
        b, zero = self.b, self.b.const(0, np.float32)
        return b.op("Min", b.op("ReduceMin", self._sums[-1], keepdims=0), zero) if self._sums else zero

    def _sum(self, shares: str, behind: str) -> None:
        """Sum the columns of one chunk, with zeros for the keys `behind` it."""
        b = self.b
        sums = b.op("ReduceSum", shares, b.ints(*self._summed), keepdims=0)
        axis = 3 - len(self._summed)
        self._sums.append(b.op("Pad", sums, b.shape(*[0] * (2 * axis + 1), behind)))

    def column_sums(self) -> Value:
        """What each row has received: (rows,), or of each KV head, (kv_heads, rows)."""
        return self.b.op("Sum", *self._sums)


def _shares(b: Body, rows: Value, chunks: int) -> Iterator[Value]:
    """Where each of so many equal chunks ends."""
    yield from (b.op("Div", b.op("Mul", rows, b.ints(i)), b.ints(chunks)) for i in range(1, chunks))
    yield rows


def _up_to(b: Body, rows: Value, ends: Sequence[int]) -> Iterator[Value]:
    """Fixed ends of chunks, and `rows` for all behind it."""
    yield from (b.op("Min", rows, b.ints(end)) for end in ends[:-1])
    yield rows


def _mask(b: Body, start: str, end: str, seen: str) -> Value:
    """What hides the keys after each of the queries [start, end): (end - start, end)."""
    first, last = (b.op("Squeeze", bound, b.ints(0)) for bound in (start, end))
    query = b.op("Unsqueeze", b.op("Range", first, last, b.const(1)), b.ints(1))
    after = b.op("Less", query, b.op("Range", b.const(0), last, b.const(1)))
    return b.op("Where", after, b.const(HIDDEN, np.float32), seen)
