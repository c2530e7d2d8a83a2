"""Causal attention and its column sums, as NumPy defines them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def causal_attention(query: Array, key: Array, value: Array) -> tuple[Array, Array]:
    """Attention of every row to itself and the rows before it.

    Args:
        query: (rows, heads * head_dim), rotated.
        key: in KV layout, rotated.
        value: in KV layout.

    Returns:
        output: (rows, heads * head_dim).
        mass: (rows,), the column sums of the probabilities over all heads and query rows; not
            normalised. Each is the weight of one row in a merge.
    """
    probabilities = _probabilities(query, key)  # (heads, rows, rows)
    return _output(probabilities, value), probabilities.sum((0, 1))


def causal_attention_head_mass(query: Array, key: Array, value: Array) -> tuple[Array, Array]:
    """`causal_attention` with the column sums of each key/value head: (kv_heads, rows).

    They are sums over the query rows of all heads of the group; summed over the groups they are its `mass`.
    """
    probabilities = _probabilities(query, key)
    groups = probabilities.reshape(len(key), -1, len(query))  # (kv_heads, group * rows, rows)
    return _output(probabilities, value), groups.sum(1)


def last_query_mass(query: Array, key: Array) -> Array:
    """The attention of the last row to every row, summed over the heads: (rows,)."""
    mass: Array = _probabilities(query, key)[:, -1].sum(0)
    return mass


def _output(probabilities: Array, value: Array) -> Array:
    """(rows, heads * head_dim) from (heads, rows, rows)."""
    heads, rows, _ = probabilities.shape
    output: Array = probabilities @ np.repeat(value, heads // len(value), axis=0)  # (heads, rows, head_dim)
    return output.transpose(1, 0, 2).reshape(rows, -1)


def _probabilities(query: Array, key: Array) -> Array:
    kv_heads, rows, head_dim = key.shape
    heads = query.shape[1] // head_dim
    q = query.reshape(rows, heads, head_dim).transpose(1, 0, 2)
    scores: Array = q @ np.repeat(key, heads // kv_heads, axis=0).transpose(0, 2, 1) * head_dim**-0.5
    scores = np.where(np.tri(rows, dtype=bool), scores, -np.inf)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    probabilities: Array = scores / scores.sum(-1, keepdims=True)
    return probabilities
