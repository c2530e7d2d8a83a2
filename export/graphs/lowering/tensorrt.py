"""Lowering for TensorRT: standard ops, which it fuses, and plugins for reductions and column sums.

There are no function bodies, because a function in the graph would win over a plugin of its name. Every
length is a function of the input shapes, so the plugins get their spans from shapes, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....plugins.body import DOMAIN, Body, Value
from ....plugins.causal_attention.op import COLUMN_MASS
from ....plugins.tensorrt_library import VERSION
from ....profiles.errors import ProfileError
from ....profiles.flops import DecoderDims
from ....profiles.signature import PREFIX_IDS, SUFFIX_IDS
from ...checkpoint.quantized import QuantizedRows, QuantizedWeight, SignedBlocks
from ..graph import Graph, Rounding
from .lowering import Cut
from .segment_ranks import append_ranks_by_counting
from .unrolled import UnrolledLowering

WHOLE_OUTPUTS = 0  # the block of matrices with one scale for each output
LARGEST_ATTRIBUTE = 2**31 - 1


class TensorRTLowering(UnrolledLowering):
    """Plugin nodes where rows are weighed and removed."""

    name = "tensorrt"
    takes_data_dependent_lengths = False
    evicts_caches = False
    sorts_pairs = True  # TensorRT-RTX 1.7 fails to compile a decode step with interleaved pairs

    def quantized_product(
        self, g: Graph, x: str, weight: QuantizedWeight, name: str, rounding: Rounding, **output: Any
    ) -> Value:
        """A plain product by what a node makes of the matrix: TensorRT fuses the two.

        Large matrices lie as its kernels read them, int8 as (in, out) and int4 as (out, in).
        """
        if is_int4 := isinstance(weight, SignedBlocks):
            values, block = g.int4_weight(weight.values), weight.block
        else:
            assert isinstance(weight, QuantizedRows), "a model is quantised for its target"
            values, block = g.weight(weight.values), WHOLE_OUTPUTS
        scales = g.weight(weight.scales)
        matrix = g.op("DequantizeLinear", values, scales, name=f"{name}/weight", axis=1, block_size=block)
        return g.op("Gemm", x, matrix, name=name, transB=int(is_int4), **output)

    def causal_attention_mass(
        self, g: Graph, name: str, dims: DecoderDims, query: str, key: str, value: str, by_head: bool = False
    ) -> tuple[str, str]:
        """Fused attention, and one more pass over query and key for the column sums."""
        assert not by_head, "the plugin sums over all heads; a method that needs more is refused before"
        out = self.causal_attention(g, name, dims, query, key, value)
        return out, _plugin(g, name, COLUMN_MASS, [query, key])

    def segment_ranks(self, g: Graph, name: str, score: str, segment: str, segments: int) -> str:
        """By counting: its TopK takes 3840 rows at most."""
        return append_ranks_by_counting(Body(f"{name}/", within=g), score, segment, segments)

    def reduce(
        self,
        g: Graph,
        name: str,
        op_type: str,
        inputs: Sequence[str],
        cut: Cut,
        outputs: Sequence[str] | int = 1,
    ) -> str:
        """A plugin. It reads of the text before and after the audio only the shapes."""
        attributes = {
            "numerator": cut.ratio.numerator,
            "denominator": cut.ratio.denominator,
            "start_offset": cut.span.before,
            "end_offset": cut.span.after,
        }
        if cut.ratio.denominator > LARGEST_ATTRIBUTE:
            raise ProfileError(
                f"{name}: the ratio {cut.ratio} does not fit into the 32-bit attributes of a plugin; "
                "give a fraction of smaller numbers"
            )
        return _plugin(g, name, op_type, [*inputs, PREFIX_IDS, SUFFIX_IDS], outputs, **attributes)


def _plugin(
    g: Graph,
    name: str,
    op_type: str,
    inputs: Sequence[str],
    outputs: Sequence[str] | int = 1,
    **attributes: int,
) -> str:
    return g.op(
        op_type,
        *inputs,
        name=name,
        domain=DOMAIN,
        plugin_namespace=DOMAIN,
        plugin_version=VERSION,
        outputs=outputs,
        **attributes,
    )
