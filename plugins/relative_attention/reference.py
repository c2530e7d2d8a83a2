"""Gated attention with relative positions, as NumPy defines it: the bias of all pairs is one tensor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def relative_attention(query: Array, key: Array, value: Array, gate: Array, bias: Array) -> Array:
    """Attention of every row to every row, whose scores get gate[query] * bias[key - query].

    Args:
        query: (rows, heads * head_dim), as are key, value and the result.
        key: see query.
        value: see query.
        gate: (rows, heads).
        bias: (heads, 2 * n + 1), for keys n rows before a query up to n rows after it; those further away get
            the first or the last of them.
    """
    rows, num_heads = gate.shape
    q, k, v = (x.reshape(rows, num_heads, -1).transpose(1, 0, 2) for x in (query, key, value))
    reach = bias.shape[1] // 2
    distance = np.arange(rows) - np.arange(rows)[:, None]
    by_pair = bias[:, np.clip(distance, -reach, reach) + reach]  # (heads, rows, rows)
    scores: Array = q @ k.transpose(0, 2, 1) * q.shape[-1] ** -0.5 + gate.T[:, :, None] * by_pair
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    output: Array = scores / scores.sum(-1, keepdims=True) @ v
    return output.transpose(1, 0, 2).reshape(rows, -1)
