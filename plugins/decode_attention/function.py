"""Decode attention from standard ONNX ops, in three parts: prefix, pool, and the rows of the step itself.

The scores on the parts are concatenated, never the keys: all are read where they lie. The heads of a group
are folded into query rows, so a grouped key is read once.
"""

from __future__ import annotations

import numpy as np
import onnx

from ..body import Body, function
from .op import DECODE_ATTENTION, LAST_ROW_ATTENTION

INPUTS = (
    *("query", "prefix_key", "prefix_value", "prefix_bias"),
    *("pool_key", "pool_value", "pool_bias", "own_key", "own_value", "own_bias"),
)
ROWS = 2  # axis of keys and values of several requests


def decode_attention(num_heads: int, num_kv_heads: int, head_dim: int) -> onnx.FunctionProto:
    """`DecodeAttention` for one head layout."""
    b, group = Body(), num_heads // num_kv_heads
    q = _folded_by_request(b, num_kv_heads, group, head_dim)
    on_prefix = b.op("MatMul", "prefix_key", b.op("Transpose", q, perm=[0, 1, 3, 2]))
    on_prefix = b.op("Transpose", on_prefix, perm=[0, 1, 3, 2])  # the smaller matrix is copied by kernels
    pool_bias = b.op("Unsqueeze", _by_head(b, "pool_bias", group, 1), b.ints(1))
    scores = b.op(
        "Concat",
        b.op("Add", on_prefix, "prefix_bias"),
        b.op("Add", _on_few_rows(b, q, "pool_key"), pool_bias),
        b.op("Add", _on_few_rows(b, q, "own_key"), _by_head(b, "own_bias", group, 0)),
        axis=-1,
    )
    # sizes are read off what all layers have in common where they can be: then they are computed once
    sizes = b.op("Concat", b.dim("prefix_key", ROWS), b.dim("pool_bias", 2), b.dim("own_bias", 0), axis=0)
    shares = b.ops("Split", b.op("Softmax", scores, axis=-1), sizes, axis=-1, outputs=3)
    values = "prefix_value", "pool_value", "own_value"
    parts = [b.op("MatMul", share, value) for share, value in zip(shares, values, strict=True)]
    y = b.op("Add", b.op("Add", parts[0], parts[1]), parts[2])
    y = b.op("Transpose", b.reshape(y, 0, num_kv_heads, group, -1, head_dim), perm=[0, 3, 1, 2, 4])
    b.op("Reshape", y, b.ints(-1, num_heads * head_dim), outputs=["output"])
    return function(DECODE_ATTENTION, INPUTS, ["output"], b)


def last_row_attention(num_heads: int, num_kv_heads: int, head_dim: int) -> onnx.FunctionProto:
    """`LastRowAttention` for one head layout."""
    b, group = Body(), num_heads // num_kv_heads
    q = _folded(b, num_kv_heads, group, head_dim)
    scores = b.op("MatMul", q, b.op("Transpose", "key", perm=[0, 2, 1]))
    y = b.op("MatMul", b.op("Softmax", scores, axis=-1), "value")
    _unfold(b, y, num_kv_heads, group, head_dim)
    return function(LAST_ROW_ATTENTION, ["query", "key", "value"], ["output"], b)


def _folded_by_request(b: Body, kv_heads: int, group: int, head_dim: int) -> str:
    """The scaled query, the heads of a group as rows: (requests, kv_heads, group * beams, head_dim)."""
    q = b.op("Mul", "query", b.const(head_dim**-0.5, np.float32))
    q = b.reshape(q, -1, b.dim("own_bias", 0), kv_heads, group, head_dim)
    return b.reshape(b.op("Transpose", q, perm=[0, 2, 3, 1, 4]), 0, kv_heads, -1, head_dim)


def _on_few_rows(b: Body, q: str, key: str) -> str:
    return b.op("MatMul", q, b.op("Transpose", key, perm=[0, 1, 3, 2]))


def _by_head(b: Body, bias: str, group: int, axis: int) -> str:
    """A bias by beam as one by query row; its beams are along this axis."""
    repeats = [group if i == axis else 1 for i in range(axis + 2)]
    return b.op("Tile", bias, b.ints(*repeats)) if group > 1 else bias


def _folded(b: Body, kv_heads: int, group: int, head_dim: int) -> str:
    """The scaled query, the heads of a group as rows: (kv_heads, group * beams, head_dim)."""
    q = b.op("Mul", "query", b.const(head_dim**-0.5, np.float32))
    q = b.op("Transpose", b.reshape(q, -1, kv_heads, group, head_dim), perm=[1, 2, 0, 3])
    return b.reshape(q, kv_heads, -1, head_dim)


def _unfold(b: Body, y: str, kv_heads: int, group: int, head_dim: int) -> None:
    """Write `output`: one row per beam, heads side by side."""
    y = b.op("Transpose", b.reshape(y, kv_heads, group, -1, head_dim), perm=[2, 0, 1, 3])
    b.op("Reshape", y, b.ints(-1, kv_heads * group * head_dim), outputs=["output"])
