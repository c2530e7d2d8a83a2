"""Decode attention, as NumPy defines it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def decode_attention(
    query: Array,
    prefix_key: Array,
    prefix_value: Array,
    prefix_bias: Array,
    pool_key: Array,
    pool_value: Array,
    pool_bias: Array,
    own_key: Array,
    own_value: Array,
    own_bias: Array,
) -> Array:
    """Attention of the beams of several requests over prefix, pool and their own rows.

    Args:
        query: (requests * beams, heads * head_dim), rotated, the beams of a request one after the other.
        prefix_key: (requests, *KV layout), of a capacity that may be larger than any prefix; prefix_value
            alike.
        prefix_bias: (requests, 1, 1, prefix), 0 for rows that are in use, very negative for those after them.
        pool_key: (requests, *KV layout), of a capacity; pool_value alike.
        pool_bias: (requests, beams, pool), 0 where a beam sees a pool row, very negative elsewhere.
        own_key: (requests, *KV layout), a row for each beam; own_value alike.
        own_bias: (beams, beams), 0 where a beam sees the row of another: its own one.

    Returns:
        (requests * beams, heads * head_dim).
    """
    requests, beams = len(own_key), own_key.shape[2]
    parts = []
    for i in range(requests):
        rows, on_prefix = slice(i * beams, (i + 1) * beams), prefix_bias[i, 0].repeat(beams, axis=0)
        bias = np.concatenate([on_prefix, pool_bias[i], own_bias], axis=1)
        key = np.concatenate([prefix_key[i], pool_key[i], own_key[i]], axis=1)
        value = np.concatenate([prefix_value[i], pool_value[i], own_value[i]], axis=1)
        parts.append(_attention(query[rows], key, value, bias))
    return np.concatenate(parts)


def last_row_attention(query: Array, key: Array, value: Array) -> Array:
    """Attention of one row to every key: a decode step whose pool is empty.

    Args:
        query: (1, heads * head_dim), rotated.
        key: in KV layout, rotated.
        value: in KV layout.

    Returns:
        (1, heads * head_dim).
    """
    return _attention(query, key, value, np.zeros((1, key.shape[1]), query.dtype))


def _attention(query: Array, key: Array, value: Array, bias: Array) -> Array:
    """Of rows (rows, heads * head_dim) to keys and values in KV layout, with a bias (rows, keys)."""
    kv_heads, _, head_dim = key.shape
    rows, heads = len(query), query.shape[1] // head_dim
    key, value = (np.repeat(part, heads // kv_heads, axis=0) for part in (key, value))
    q = query.reshape(rows, heads, head_dim).transpose(1, 0, 2)
    scores: Array = q @ key.transpose(0, 2, 1) * head_dim**-0.5 + bias
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    output: Array = scores / scores.sum(-1, keepdims=True) @ value
    return output.transpose(1, 0, 2).reshape(rows, -1)
