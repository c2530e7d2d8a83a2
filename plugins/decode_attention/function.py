"""Decode attention from standard ONNX ops, in two parts.

The scores on the prefix and on the pool are concatenated, never the keys: the prefix is read where the
prefill left it. The heads of a group are folded into query rows, so a grouped key is read once.
"""

from __future__ import annotations

import numpy as np
import onnx

from ..body import Body, function
from .op import DECODE_ATTENTION, LAST_ROW_ATTENTION

INPUTS = ("query", "prefix_key", "prefix_value", "pool_key", "pool_value", "pool_bias")


def decode_attention(num_heads: int, num_kv_heads: int, head_dim: int) -> onnx.FunctionProto:
    """`DecodeAttention` for one head layout."""
    b, group = Body(), num_heads // num_kv_heads
    q = _folded(b, num_kv_heads, group, head_dim)
    on_prefix = _scores_of_many_rows(b, "prefix_key", q)
    on_pool = b.op("MatMul", q, b.op("Transpose", "pool_key", perm=[0, 2, 1]))
    bias = b.op("Tile", "pool_bias", b.ints(group, 1)) if group > 1 else "pool_bias"
    scores = b.op("Concat", on_prefix, b.op("Add", on_pool, bias), axis=-1)
    sizes = b.op("Concat", b.dim("prefix_key", 1), b.dim("pool_key", 1), axis=0)
    p_prefix, p_pool = b.ops("Split", b.op("Softmax", scores, axis=-1), sizes, axis=-1, outputs=2)
    y = b.op("Add", b.op("MatMul", p_prefix, "prefix_value"), b.op("MatMul", p_pool, "pool_value"))
    _unfold(b, y, num_kv_heads, group, head_dim)
    return function(DECODE_ATTENTION, INPUTS, ["output"], b)


def last_row_attention(num_heads: int, num_kv_heads: int, head_dim: int) -> onnx.FunctionProto:
    """`LastRowAttention` for one head layout."""
    b, group = Body(), num_heads // num_kv_heads
    q = _folded(b, num_kv_heads, group, head_dim)
    scores = b.op("MatMul", q, b.op("Transpose", "key", perm=[0, 2, 1]))
    y = b.op("MatMul", b.op("Softmax", scores, axis=-1), "value")
    _unfold(b, y, num_kv_heads, group, head_dim)
    return function(LAST_ROW_ATTENTION, ["query", "key", "value"], ["output"], b)


def _scores_of_many_rows(b: Body, key: str, q: str) -> str:
    """(key q^T)^T: a kernel copies its second matrix into another layout, so it is the small one."""
    scores = b.op("MatMul", key, b.op("Transpose", q, perm=[0, 2, 1]))
    return b.op("Transpose", scores, perm=[0, 2, 1])


def _folded(b: Body, kv_heads: int, group: int, head_dim: int) -> str:
    """The scaled query, the heads of a group as rows: (kv_heads, group * beams, head_dim)."""
    q = b.op("Mul", "query", b.const(head_dim**-0.5, np.float32))
    q = b.op("Transpose", b.reshape(q, -1, kv_heads, group, head_dim), perm=[1, 2, 0, 3])
    return b.reshape(q, kv_heads, -1, head_dim)


def _unfold(b: Body, y: str, kv_heads: int, group: int, head_dim: int) -> None:
    """Write `output`: one row per beam, heads side by side."""
    y = b.op("Transpose", b.reshape(y, kv_heads, group, -1, head_dim), perm=[2, 0, 1, 3])
    b.op("Reshape", y, b.ints(-1, kv_heads * group * head_dim), outputs=["output"])
