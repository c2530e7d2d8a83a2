"""Bidirectional attention from standard ONNX ops: a Loop over heads, so one score matrix lives at a time."""

from __future__ import annotations

import numpy as np
import onnx

from ..body import BOOL, FLOAT, INT64, Body, function, value
from .op import FULL_ATTENTION


def full_attention(num_heads: int, head_dim: int) -> onnx.FunctionProto:
    """`FullAttention` for one head layout."""
    b = Body()
    scaled = b.op("Mul", "query", b.const(head_dim**-0.5, np.float32))
    q, k, v = (
        b.op("Transpose", b.reshape(x, -1, num_heads, head_dim), perm=[1, 0, 2])
        for x in (scaled, "key", "value")
    )
    step = Body("head_")
    q_head, k_head, v_head = (step.op("Gather", x, "head_i", axis=0) for x in (q, k, v))
    scores = step.op("MatMul", q_head, step.op("Transpose", k_head, perm=[1, 0]))
    out = step.op("MatMul", step.op("Softmax", scores, axis=-1), v_head)
    inputs = [value("head_i", INT64, []), value("head_go", BOOL, [])]
    (y,) = b.loop(b.ints(num_heads), step, inputs, [value(out, FLOAT, [None, head_dim])])
    y = b.op("Transpose", y, perm=[1, 0, 2])
    b.op("Reshape", y, b.ints(-1, num_heads * head_dim), outputs=["output"])
    return function(FULL_ATTENTION, ["query", "key", "value"], ["output"], b)
