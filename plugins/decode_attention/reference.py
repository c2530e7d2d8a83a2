"""Decode attention, as NumPy defines it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def decode_attention(
    query: Array, prefix_key: Array, prefix_value: Array, pool_key: Array, pool_value: Array, pool_bias: Array
) -> Array:
    """Attention of each beam over the prefix and its own branch of the pool.

    Args:
        query: (beams, heads * head_dim), rotated.
        prefix_key: the prefix rows, in KV layout; prefix_value alike.
        pool_key: the pool rows, in KV layout; pool_value alike.
        pool_bias: (beams, pool), 0 where a beam sees a pool row, very negative elsewhere.

    Returns:
        (beams, heads * head_dim).
    """
    kv_heads, prefix, head_dim = prefix_key.shape
    beams, heads = len(query), query.shape[1] // head_dim
    key, val = (
        np.repeat(np.concatenate(parts, axis=1), heads // kv_heads, axis=0)
        for parts in ((prefix_key, pool_key), (prefix_value, pool_value))
    )
    q = query.reshape(beams, heads, head_dim).transpose(1, 0, 2)
    scores: Array = q @ key.transpose(0, 2, 1) * head_dim**-0.5
    scores = scores + np.pad(pool_bias, ((0, 0), (prefix, 0)))
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    output: Array = scores / scores.sum(-1, keepdims=True) @ val
    return output.transpose(1, 0, 2).reshape(beams, -1)


def last_row_attention(query: Array, key: Array, value: Array) -> Array:
    """Attention of one row to every key: a decode step whose pool is empty.

    Args:
        query: (1, heads * head_dim), rotated.
        key: in KV layout, rotated.
        value: in KV layout.

    Returns:
        (1, heads * head_dim).
    """
    return decode_attention(query, key, value, key[:, :0], value[:, :0], query[:, :0])
