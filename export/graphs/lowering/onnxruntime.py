"""Lowering for ONNX Runtime: the project's ops as model-local functions, fused residual norms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx

from ....plugins.body import DOMAIN, Body, Value
from ....plugins.causal_attention import function as causal
from ....plugins.causal_attention.op import LAST_QUERY_MASS
from ....plugins.decode_attention import function as decode
from ....plugins.decode_attention.op import DECODE_ATTENTION, LAST_ROW_ATTENTION
from ....plugins.evict_cache import function as cache_eviction
from ....plugins.evict_cache.op import EVICT_CACHE
from ....plugins.evict_tokens import function as evict
from ....plugins.gated_mlp import function as mlp
from ....plugins.gated_mlp.op import GATED_MLP
from ....plugins.merge_tokens import function as merge
from ....plugins.merge_tokens.op import RANDOM_SCORE
from ....plugins.relative_attention.function import SkewedBias, append_relative_attention
from ....plugins.select_groups import function as groups
from ....plugins.select_groups.op import SELECT_GROUPS
from ....plugins.step_product import function as product
from ....profiles.flops import DecoderDims
from ...checkpoint.derived import Weight
from ...checkpoint.precision import FP32, Precision
from ...checkpoint.quantized import Int8Blocks, QuantizedBlocks, QuantizedRows, QuantizedWeight
from ..graph import Graph, Rounding
from . import int8_attention, int8_rows
from .lowering import Cut, KvPart, Lowering
from .segment_ranks import append_ranks_by_order

CONTRIB = "com.microsoft"
INT8_ACTIVATIONS = 4  # the accuracy level of MatMulNBits that rounds each block of activations to int8
RARE_BODIES: dict[str, Callable[[DecoderDims], onnx.FunctionProto]] = {
    EVICT_CACHE: lambda dims: cache_eviction.evict_cache(dims.num_kv_heads, dims.head_dim),
    SELECT_GROUPS: lambda _: groups.select_groups(),
}
"""Of reduction ops that are only in the graphs which use them."""


class OnnxRuntimeLowering:
    """Standard ops inside functions, which ONNX Runtime inlines and fuses."""

    name = "onnxruntime"
    precision: Precision = FP32
    takes_data_dependent_lengths = True
    has_loops = True
    normalises_over_time = True
    evicts_caches = True
    sorts_pairs = False
    pools_in_place = False
    domains: tuple[str, ...] = (CONTRIB,)
    turns_many_rows = True

    @property
    def for_steps(self) -> Lowering:
        """Itself: one backend runs all graphs."""
        return self

    def decoder_functions(self, dims: DecoderDims, reduction: str | None = None) -> list[onnx.FunctionProto]:
        """Bodies of the ops that prefill and decode graphs use."""
        heads = dims.num_heads, dims.num_kv_heads, dims.head_dim
        return [
            causal.last_query_mass(*heads),
            decode.decode_attention(*heads),
            decode.last_row_attention(*heads),
            merge.edge_similarity(),
            merge.merge_edges(),
            merge.merge_tokens(),
            merge.merge_pairs(),
            merge.random_score(),
            evict.evict_tokens(),
            mlp.gated_mlp(),
            product.step_product(),
            *(body(dims) for op_type, body in RARE_BODIES.items() if op_type == reduction),
        ]

    def quantized_product(
        self, g: Graph, x: str, weight: QuantizedWeight, name: str, rounding: Rounding, **output: Any
    ) -> Value:
        """Integer kernels of ONNX Runtime's own domain."""
        if isinstance(weight, QuantizedRows):
            return int8_rows.product(g, x, weight, name, rounding, **output)
        assert isinstance(weight, QuantizedBlocks | Int8Blocks), "a model is quantised for its target"
        return product_in_blocks(g, x, weight, name, accuracy_level=INT8_ACTIVATIONS, **output)

    def full_attention(self, g: Graph, name: str, num_heads: int, query: str, key: str, value: str) -> str:
        """One fused kernel, which holds a tile of the scores at a time; the standard one would hold all."""
        batched = (g.op("Unsqueeze", x, g.ints(0)) for x in (query, key, value))
        out = g.op("MultiHeadAttention", *batched, name=name, domain=CONTRIB, num_heads=num_heads)
        return g.op("Squeeze", out, g.ints(0))

    def rounded_attention(
        self, g: Graph, name: str, heads: tuple[int, int], query: str, key: str, value: str
    ) -> str:
        """Integer kernels, of which the fused one has none."""
        return int8_attention.append_attention(g, name, heads, query, key, value)

    def relative_chunks(self, num_heads: int) -> int | None:
        """Chunks of a fixed length."""
        return None

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
        """A Loop over heads and query chunks."""
        body = Body(f"{name}/", within=g)
        return append_relative_attention(body, heads, query, key, value, gate, skewed)

    def causal_attention(
        self, g: Graph, name: str, dims: DecoderDims, query: str, key: str, value: str
    ) -> str:
        """A Loop over query chunks and heads."""
        return _attention(g, name, dims, (query, key, value), ("output",))[0]

    def causal_attention_mass(
        self, g: Graph, name: str, dims: DecoderDims, query: str, key: str, value: str, by_head: bool = False
    ) -> tuple[str, str]:
        """The same Loop with the column sums carried along."""
        output, mass = _attention(g, name, dims, (query, key, value), ("output", "mass"), by_head)
        return output, mass

    def last_row_attention(
        self, g: Graph, name: str, dims: DecoderDims, query: str, key: str, value: str
    ) -> str:
        """One row, no mask."""
        return g.op(LAST_ROW_ATTENTION, query, key, value, name=name, domain=DOMAIN)

    def decode_attention(
        self, g: Graph, name: str, dims: DecoderDims, query: str, parts: Mapping[str, KvPart]
    ) -> str:
        """Attention in three parts: prefix and pool are read in place."""
        inputs = [tensor or "" for part in parts.values() for tensor in (part.key, part.value, part.bias)]
        return g.op(DECODE_ATTENTION, query, *inputs, name=name, domain=DOMAIN)

    def add_norm(
        self, g: Graph, name: str, residual: str, branch: str, weight: Weight, eps: float
    ) -> tuple[str, str]:
        """One fused kernel."""
        return skip_norm(g, name, residual, branch, weight, eps)

    def gated_mlp(self, g: Graph, name: str, x: str, gate: str, up: str, down: str) -> str:
        """A Loop over row chunks: the wide layer of a long prompt never exists whole."""
        return g.op(GATED_MLP, x, gate, up, down, name=name, domain=DOMAIN)

    def random_score(self, g: Graph, name: str, count: str, seed: int) -> str:
        """Integer arithmetic inside the graph."""
        return g.op(RANDOM_SCORE, count, name=name, domain=DOMAIN, seed=seed)

    def segment_ranks(self, g: Graph, name: str, score: str, segment: str, segments: int) -> str:
        """By an order of all rows: TopK gives ties to the lower index."""
        b = Body(f"{name}/", within=g)
        count = b.dim(score, 0)
        order = b.ops("TopK", merge.ordered(b, score), count, axis=0, sorted=1, outputs=2)[1]
        return append_ranks_by_order(b, order, segment, segments)

    def last_query_mass(self, g: Graph, name: str, dims: DecoderDims, query: str, key: str) -> str:
        """One row of scores."""
        return g.op(LAST_QUERY_MASS, query, key, name=name, domain=DOMAIN)

    def reduce(
        self,
        g: Graph,
        name: str,
        op_type: str,
        inputs: Sequence[str],
        cut: Cut,
        outputs: Sequence[str] | int = 1,
    ) -> str:
        """Every reduction op has a function body; lengths that depend on the data are no obstacle."""
        span = g.shape(cut.span.start, cut.length)
        return g.op(op_type, *inputs, span, cut.removed, name=name, domain=DOMAIN, outputs=outputs)


def skip_norm(g: Graph, name: str, residual: str, branch: str, weight: Weight, eps: float) -> tuple[str, str]:
    """The sum and its norm by one kernel, which writes the normalised rows first, the sum fourth."""
    stem = f"{name}/add_norm"
    normed, _, _, total = g.ops(
        "SkipSimplifiedLayerNormalization",
        residual,
        branch,
        g.weight(weight),
        name=name,
        domain=CONTRIB,
        outputs=[f"{stem}.normed", "", "", f"{stem}.sum"],
        epsilon=eps,
    )
    return total, normed


def product_in_blocks(
    g: Graph, x: str, weight: QuantizedBlocks | Int8Blocks, name: str, **attributes: Any
) -> Value:
    """x W^T. Without zero points the kernel takes the middle of its numbers, 8 or 128."""
    outputs, inputs = weight.shape
    bits, zeros = (8, None) if isinstance(weight, Int8Blocks) else (4, weight.zero_points)
    zero_points = [g.weight(zeros)] if zeros else []
    return g.op(
        "MatMulNBits",
        *(x, g.weight(weight.values), g.weight(weight.scales), *zero_points),
        name=name,
        domain=CONTRIB,
        K=inputs,
        N=outputs,
        bits=bits,
        block_size=weight.block,
        **attributes,
    )


def _attention(
    g: Graph,
    name: str,
    dims: DecoderDims,
    inputs: Sequence[str],
    outputs: Sequence[str],
    mass_by_head: bool = False,
) -> list[str]:
    """The nodes of the function instead of its call, so that the mask is added in place."""
    body = Body(f"{name}/", within=g)
    names = [f"{name}/{output}" for output in outputs]
    heads = dims.num_heads, dims.num_kv_heads, dims.head_dim
    causal.append_attention(body, heads, inputs, names, mass_by_head)
    return names
