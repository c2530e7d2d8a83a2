"""Lowering to standard ops alone: fused attention, and neither functions nor Loops.

Reductions have lengths that follow from shapes (`fixed_lengths.py`), but for A-ToMe. What this costs in
copies: the query and the attention output are transposed in each layer of the prefill; keys and values are
read as the cache keeps them. In a decode step prefixes and pools are read in place: only scores are
concatenated.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from ....plugins.body import Body, Value
from ....plugins.causal_attention.function import append_last_query_mass
from ....plugins.merge_tokens.reference import random_score
from ....plugins.relative_attention.function import SkewedBias, append_in_chunks
from ....profiles.flops import DecoderDims
from ....profiles.kv_layout import ROWS_AXIS
from ...checkpoint.derived import Weight
from ...checkpoint.precision import FP32, Precision
from ...checkpoint.quantized import QuantizedWeight
from ..graph import Graph, Rounding
from .fixed_lengths import append_order, append_reduction
from .lowering import Cut, KvPart, Lowering
from .segment_ranks import append_ranks_by_order

SCORE_BYTES = 1 << 30  # of one chunk of queries: fewer chunks make a smaller graph, but memory is finite
ENCODER_ROWS_PER_AUDIO_ROW = 4  # of a wave encoder, before its head


class UnrolledLowering(ABC):
    """What backends have in common whose graphs are written out in standard ops."""

    name: str
    takes_data_dependent_lengths = True
    has_loops = False
    normalises_over_time = True
    evicts_caches = True
    sorts_pairs = False
    pools_in_place = False
    domains: tuple[str, ...] = ()
    turns_many_rows = False

    def __init__(self, precision: Precision, max_audio_rows: int) -> None:
        """`max_audio_rows` is the longest `audio_embeds` that the graphs will be given."""
        self.precision, self.max_audio_rows = precision, max_audio_rows

    @property
    def for_steps(self) -> Lowering:
        """Itself: one backend runs all graphs."""
        return self

    def decoder_functions(self, dims: DecoderDims, reduction: str | None = None) -> list[onnx.FunctionProto]:
        """None: the nodes themselves are in the graph."""
        return []

    @abstractmethod
    def quantized_product(
        self, g: Graph, x: str, weight: QuantizedWeight, name: str, rounding: Rounding, **output: Any
    ) -> Value:
        """x W^T for rows x (rows, in)."""

    def full_attention(self, g: Graph, name: str, num_heads: int, query: str, key: str, value: str) -> str:
        """Fused attention over (1, rows, heads * head_dim)."""
        batched = (g.op("Unsqueeze", x, g.ints(0)) for x in (query, key, value))
        out = g.op("Attention", *batched, name=name, q_num_heads=num_heads, kv_num_heads=num_heads)
        return g.op("Squeeze", out, g.ints(0))

    def rounded_attention(
        self, g: Graph, name: str, heads: tuple[int, int], query: str, key: str, value: str
    ) -> str:
        """Fused attention, which rounds nothing."""
        return self.full_attention(g, name, heads[0], query, key, value)

    def relative_chunks(self, num_heads: int) -> int:
        """So many that the scores of one, for the longest audio, take `SCORE_BYTES` or less."""
        rows = self.max_audio_rows * ENCODER_ROWS_PER_AUDIO_ROW
        return max(1, math.ceil(num_heads * rows**2 * FP32.item_bytes / SCORE_BYTES))

    def relative_attention(
        self,
        g: Graph,
        name: str,
        heads: tuple[int, int],
        query: str,
        key: str,
        value: str,
        gate: str,
        skewed: SkewedBias,
    ) -> str:
        """Standard ops for each chunk of queries; scores, biases and softmax are float32.

        Fused attention would want the biases as a mask in memory all the same, and TensorRT's builder
        crashes on two such nodes beside each other (TensorRT-RTX 1.7.1).
        """
        num_heads, head_dim = heads
        body, chunks = Body(f"{name}/", within=g), skewed.chunks
        scaled = g.op("Mul", query, g.number(head_dim**-0.5), name=f"{name}/scale")
        q = append_in_chunks(body, chunks, scaled, num_heads, head_dim)
        gates = append_in_chunks(body, chunks, g.to_float(gate), num_heads, 1)
        k = g.op("Transpose", g.reshape(key, -1, num_heads, head_dim), perm=[1, 2, 0])
        v = g.op("Transpose", g.reshape(value, -1, num_heads, head_dim), perm=[1, 0, 2])
        parts = []
        for i in range(self.relative_chunks(num_heads)):
            of_chunk, gate_of_chunk = (g.op("Gather", x, g.const(i), axis=1) for x in (q, gates))
            start = g.op("Sub", chunks.last, g.op("Mul", g.ints(i), chunks.length))
            bias = g.to_float(g.slice(skewed.table, start, g.op("Add", start, chunks.rows), 2))
            scores = g.to_float(g.op("MatMul", of_chunk, k, name=f"{name}/scores"))
            biased = g.op("Add", scores, g.op("Mul", bias, gate_of_chunk))
            out = g.op("MatMul", _softmax(g, name, biased), v, name=f"{name}/value")
            parts.append(g.op("Transpose", out, perm=[1, 0, 2]))
        whole = g.op("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]
        return g.reshape(g.slice(whole, g.ints(0), chunks.rows, 0), -1, num_heads * head_dim)

    def causal_attention(
        self, g: Graph, name: str, dims: DecoderDims, query: str, key: str, value: str
    ) -> str:
        """Fused causal attention; keys and values go in as the cache keeps them."""
        split = g.reshape(query, 1, -1, dims.num_heads, dims.head_dim)
        q = g.op("Transpose", split, name=f"{name}/query", perm=[0, 2, 1, 3])
        k, v = (g.op("Unsqueeze", x, g.ints(0)) for x in (key, value))
        out = g.op("Attention", q, k, v, name=name, is_causal=1)
        out = g.op("Transpose", out, name=f"{name}/output", perm=[0, 2, 1, 3])
        return g.reshape(out, -1, dims.query_width)

    @abstractmethod
    def causal_attention_mass(
        self, g: Graph, name: str, dims: DecoderDims, query: str, key: str, value: str, by_head: bool = False
    ) -> tuple[str, str]:
        """The same, and its column sums: (rows,), or those of each KV head, (kv_heads, rows)."""

    def last_row_attention(
        self, g: Graph, name: str, dims: DecoderDims, query: str, key: str, value: str
    ) -> str:
        """One row, no mask."""
        q = _folded(g, name, dims, query)
        probabilities = _softmax(g, name, _scores(g, name, q, key))
        return _unfolded(g, dims, g.op("MatMul", probabilities, value, name=f"{name}/value"))

    def decode_attention(
        self, g: Graph, name: str, dims: DecoderDims, query: str, parts: Mapping[str, KvPart]
    ) -> str:
        """Scores of all parts, one softmax in float32, and the values of each part by its share."""
        requests = [] if self.pools_in_place else [g.dim(parts["prefix"].key, 0)]
        rows_axis, q = len(requests) + ROWS_AXIS, _folded(g, name, dims, query, *requests)
        scores = []
        for place, part in parts.items():
            on_part = _scores(g, f"{name}/{place}", q, part.key, stacked=len(requests))
            bias = _by_head(g, place, part.bias, dims, len(requests)) if part.bias else None
            scores.append(g.op("Add", on_part, bias) if bias else on_part)
        probabilities, end = _softmax(g, name, g.op("Concat", *scores, axis=-1)), g.ints(0)
        total = None
        for place, part in parts.items():
            start, end = end, g.op("Add", end, g.dim(part.key, rows_axis))
            share = g.slice(probabilities, start, end, rows_axis + 1)
            y = g.op("MatMul", share, part.value, name=f"{name}/{place}/value")
            total = g.op("Add", total, y, name=f"{name}/sum") if total else y
        assert total is not None, "there is a prefix"
        return _unfolded(g, dims, total, *requests)

    def add_norm(
        self, g: Graph, name: str, residual: str, branch: str, weight: Weight, eps: float
    ) -> tuple[str, str]:
        """Two ops."""
        total = g.op("Add", residual, branch, name=f"{name}/sum")
        return total, g.rms_norm(total, weight, eps, name)

    def gated_mlp(self, g: Graph, name: str, x: str, gate: str, up: str, down: str) -> str:
        """Plain matrix products: the memory of a GPU holds the wide layer."""
        parts = {"gate_proj": gate, "up_proj": up}
        gated, wide = (g.op("Gemm", x, w, name=f"{name}/{part}", transB=1) for part, w in parts.items())
        gated = g.op("Mul", gated, g.op("Sigmoid", gated, name=name), name=name)
        return g.op("Gemm", g.op("Mul", gated, wide), down, name=f"{name}/down_proj", transB=1)

    def random_score(self, g: Graph, name: str, count: str, seed: int) -> str:
        """The first of the numbers for the longest span: each depends on its place and the seed alone."""
        longest = self.max_audio_rows + 1  # a span may start at the row before the audio
        return g.slice(g.const(random_score(longest, seed), np.float32), g.ints(0), count, 0)

    def segment_ranks(self, g: Graph, name: str, score: str, segment: str, segments: int) -> str:
        """By an order of all rows, whose ties are told apart before TopK could order them in any way."""
        b = Body(f"{name}/", within=g)
        return append_ranks_by_order(b, append_order(b, score), segment, segments)

    def last_query_mass(self, g: Graph, name: str, dims: DecoderDims, query: str, key: str) -> str:
        """Standard ops, in float32: a rounded score could change which rows go."""
        last = g.to_float(g.op("Gather", query, g.ints(-1), axis=0))
        heads = dims.num_heads, dims.num_kv_heads, dims.head_dim
        return append_last_query_mass(Body(f"{name}/", within=g), heads, last, g.to_float(key))

    def reduce(
        self,
        g: Graph,
        name: str,
        op_type: str,
        inputs: Sequence[str],
        cut: Cut,
        outputs: Sequence[str] | int = 1,
    ) -> str:
        """The nodes of the op; rows are summed in float32."""
        names = [f"{name}/reduced.{i}" for i in range(outputs)] if isinstance(outputs, int) else list(outputs)
        body = Body(f"{name}/", within=g)
        append_reduction(body, op_type, inputs, cut, names, lambda x: g.op("CastLike", x, inputs[0]))
        return names[0]


def _folded(g: Graph, name: str, dims: DecoderDims, query: str, *requests: str) -> str:
    """The scaled query, the heads of a group as rows: (kv_heads, group * beams, head_dim).

    With `requests`, how many there are, behind an axis of them.
    """
    kv_heads, group = dims.num_kv_heads, dims.num_heads // dims.num_kv_heads
    q = g.op("Mul", query, g.number(dims.head_dim**-0.5), name=f"{name}/scale")
    q = g.reshape(q, *requests, -1, kv_heads, group, dims.head_dim)
    q = g.op("Transpose", q, perm=_behind(len(requests), 1, 2, 0, 3))
    return g.reshape(q, *requests, kv_heads, -1, dims.head_dim)


def _scores(g: Graph, name: str, q: str, key: str, stacked: int = 0) -> str:
    """Scores, rounded to the activations' format, as float32: (kv_heads, group * beams, rows).

    `stacked` axes of query and key stand in front.
    """
    columns = g.op("Transpose", key, perm=_behind(stacked, 0, 2, 1))
    return g.to_float(g.op("MatMul", q, columns, name=f"{name}/scores"))


def _by_head(g: Graph, place: str, bias: str, dims: DecoderDims, stacked: int) -> str:
    """The bias of a part as it is added to the scores of query rows, of which a beam has one a head."""
    if place == "prefix":  # the same for all beams
        return bias
    group, in_front = dims.num_heads // dims.num_kv_heads, stacked if place == "pool" else 0
    if group > 1:
        bias = g.op("Tile", bias, g.ints(*[1] * in_front, group, 1))
    return g.op("Unsqueeze", bias, g.ints(1)) if in_front else bias


def _softmax(g: Graph, name: str, scores: str) -> str:
    return g.to_activation(g.op("Softmax", scores, axis=-1, name=name))


def _unfolded(g: Graph, dims: DecoderDims, y: str, *requests: str) -> str:
    """One row a beam, heads side by side: (beams, heads * head_dim), those of all requests."""
    kv_heads, group = dims.num_kv_heads, dims.num_heads // dims.num_kv_heads
    y = g.reshape(y, *requests, kv_heads, group, -1, dims.head_dim)
    return g.reshape(g.op("Transpose", y, perm=_behind(len(requests), 2, 0, 1, 3)), -1, dims.query_width)


def _behind(stacked: int, *axes: int) -> list[int]:
    """An order of axes, behind axes that stay where they are."""
    return [*range(stacked), *(stacked + axis for axis in axes)]
