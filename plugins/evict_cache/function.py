"""Cache eviction from standard ONNX ops."""

from __future__ import annotations

import onnx

from ..body import Body, function
from ..merge_tokens.function import ordered
from .op import EVICT_CACHE


def evict_cache(num_kv_heads: int, head_dim: int) -> onnx.FunctionProto:
    """`EvictCache` for one head layout. TopK gives ties to the lower index."""
    b = Body()
    start = b.op("Gather", "span", b.ints(0), axis=0)
    _, index = b.ops("TopK", ordered(b, "score"), "removed", axis=1, largest=0, sorted=0, outputs=2)
    rows = b.dim("key", 1)
    everything = b.op("Expand", b.ints(1), b.shape(num_kv_heads, rows))
    zeros = b.op("Expand", b.ints(0), b.op("Shape", index))
    keep = b.op("ScatterElements", everything, b.op("Add", index, start), zeros, axis=1)
    kept = b.op("Transpose", b.op("NonZero", keep), perm=[1, 0])  # (head, row) of each, head by head
    shape = b.shape(num_kv_heads, b.op("Sub", rows, "removed"), head_dim)
    for cache in ("key", "value"):
        gathered = b.op("GatherND", cache, kept)  # (kv_heads * kept, head_dim)
        b.op("Reshape", gathered, shape, allowzero=1, outputs=[f"kept_{cache}"])
    inputs = ["key", "value", "score", "span", "removed"]
    return function(EVICT_CACHE, inputs, ["kept_key", "kept_value"], b)
