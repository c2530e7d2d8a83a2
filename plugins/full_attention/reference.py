"""Bidirectional attention, as NumPy defines it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def full_attention(query: Array, key: Array, value: Array, num_heads: int) -> Array:
    """Attention of every row to every row. query, key, value and result: (rows, heads * head_dim)."""
    rows = len(query)
    q, k, v = (x.reshape(rows, num_heads, -1).transpose(1, 0, 2) for x in (query, key, value))
    scores: Array = q @ k.transpose(0, 2, 1) * q.shape[-1] ** -0.5
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    output: Array = scores / scores.sum(-1, keepdims=True) @ v
    return output.transpose(1, 0, 2).reshape(rows, -1)
