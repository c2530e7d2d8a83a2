"""Cache eviction, as NumPy defines it (H2O: the score is the attention that a head pays to a row)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..evict_tokens.reference import evict_tokens

Array = NDArray[np.floating]


def evict_cache(
    key: Array, value: Array, score: Array, start: int, length: int, removed: int
) -> tuple[Array, Array]:
    """Drop in each head the `removed` rows of the span with the smallest score; ties as in `evict_tokens`.

    Args:
        key: in KV layout.
        value: in KV layout.
        score: (kv_heads, length), one for each head and row of the span.
        start: first row of the span.
        length: rows of the span.
        removed: rows to drop in each head, at most length - 1.

    Returns:
        key and value, `rows - removed` rows each, order kept.
    """
    kept_key, kept_value = (
        np.stack([evict_tokens(*head, start, length, removed) for head in zip(cache, score, strict=True)])
        for cache in (key, value)
    )
    return kept_key, kept_value
