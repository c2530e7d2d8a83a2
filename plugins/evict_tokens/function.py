"""Token eviction from standard ONNX ops."""

from __future__ import annotations

import onnx

from ..body import Body, function
from ..merge_tokens.function import ordered
from .op import EVICT_TOKENS


def evict_tokens() -> onnx.FunctionProto:
    """`EvictTokens`. TopK gives ties to the lower index."""
    b = Body()
    start = b.op("Gather", "span", b.ints(0), axis=0)
    _, index = b.ops("TopK", ordered(b, "score"), "removed", axis=0, largest=0, sorted=0, outputs=2)
    rows = b.dim("hidden", 0)
    zeros = b.op("Expand", b.ints(0), b.op("Shape", index))
    keep = b.op("ScatterElements", b.op("Expand", b.ints(1), rows), b.op("Add", index, start), zeros, axis=0)
    kept = b.op("Squeeze", b.op("NonZero", keep), b.ints(0))
    b.op("Gather", "hidden", kept, axis=0, outputs=["kept"])
    return function(EVICT_TOKENS, ["hidden", "score", "span", "removed"], ["kept"], b)
