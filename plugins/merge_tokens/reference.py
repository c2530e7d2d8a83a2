"""Token merging, as NumPy defines it (FastAdaSP: weighted merge; A-ToMe: disjoint pairs)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .op import LARGEST_WEIGHT, SMALLEST_NORM, SMALLEST_WEIGHT

Array = NDArray[np.floating]
Bools = NDArray[np.bool_]


def edge_similarity(key: Array, start: int, length: int) -> Array:
    """Cosine of each pair of neighbouring keys of the span, all heads taken as one vector.

    Args:
        key: in KV layout, rotated, of the layer that merges.
        start: first row of the span.
        length: rows of the span.

    Returns:
        (length - 1,). A zero key has similarity 0.
    """
    kv_heads, _, head_dim = key.shape
    rows = key[:, start : start + length].transpose(1, 0, 2).reshape(length, kv_heads * head_dim)
    scale = np.abs(rows).max(-1, keepdims=True, initial=0)  # so that no square overflows
    unit: Array = rows / np.maximum(scale, SMALLEST_NORM)
    unit = unit / np.maximum(np.sqrt((unit * unit).sum(-1, keepdims=True)), SMALLEST_NORM)
    similarity: Array = (unit[:-1] * unit[1:]).sum(-1)
    return similarity


def top_edges(score: Array, count: int) -> Bools:
    """The `count` edges of the largest score; ties go to the lower index. (edges,) of bool."""
    chosen = np.zeros(len(score), bool)
    chosen[np.argsort(-ordered(score), kind="stable")[:count]] = True
    return chosen


def ordered(score: Array) -> Array:
    """The scores with NaN as the smallest, so that every version orders them alike."""
    return np.where(np.isnan(score), -np.inf, score)


def merge_edges(hidden: Array, score: Array, weight: Array, start: int, length: int, removed: int) -> Array:
    """Merge along the `removed` edges of the largest score; runs of edges become one row.

    Args:
        hidden: (rows, hidden_size), residual plus attention output.
        score: (length - 1,), one for each pair of neighbours in the span.
        weight: (rows,), attention mass; only its ratios inside a merged run matter.
        start: first row of the span.
        length: rows of the span.
        removed: rows to remove, at most length - 1.

    Returns:
        (rows - removed, hidden_size), order kept. A row that merges with none is copied bit by bit.
    """
    is_head = np.ones(len(hidden), bool)
    is_head[start + 1 : start + length] = ~top_edges(score, removed)
    return _weighted_mean(hidden, weight, is_head)


def merge_tokens(hidden: Array, key: Array, weight: Array, start: int, length: int, removed: int) -> Array:
    """`merge_edges` along the most similar neighbouring keys: the FastAdaSP merge."""
    return merge_edges(hidden, edge_similarity(key, start, length), weight, start, length, removed)


def merge_pairs(hidden: Array, key: Array, start: int, length: int, removed: int) -> Array:
    """A-ToMe: from left to right, each chosen edge whose rows are both free averages its two rows.

    A run of m chosen edges gives ceil(m / 2) merges, so at most `removed` rows go.
    """
    chosen = top_edges(edge_similarity(key, start, length), removed)
    is_head = np.ones(len(hidden), bool)
    for edge in np.flatnonzero(chosen):
        is_head[start + edge + 1] = not is_head[start + edge]
    return _weighted_mean(hidden, np.ones(len(hidden), hidden.dtype), is_head)


def random_score(count: int, seed: int) -> Array:
    """`count` reproducible scores in [0, 1): two rounds of multiply and xor-shift on 31-bit integers."""
    x = (np.arange(count, dtype=np.int64) + 1) * 0x9E3779B1 + seed % 2**31 * 0x85EBCA6B
    x %= 2**31
    for factor in (0x45D9F3B, 0x2C1B3C6D):
        x = ((x ^ (x >> 15)) * factor) % 2**31
    score: Array = ((x ^ (x >> 15)) >> 7).astype(np.float32) / np.float32(2**24)
    return score


def _weighted_mean(hidden: Array, weight: Array, is_head: Bools) -> Array:
    """One row for each run that starts at a head: sum(w h) / sum(w) over the run."""
    weight = np.where(weight > SMALLEST_WEIGHT, weight, SMALLEST_WEIGHT).astype(hidden.dtype)
    weight = np.minimum(weight, LARGEST_WEIGHT)
    heads = np.flatnonzero(is_head)
    cluster = np.cumsum(is_head) - 1
    share = weight / np.add.reduceat(weight, heads)[cluster]
    merged: Array = hidden[heads] * share[heads, None]
    np.add.at(merged, cluster[~is_head], hidden[~is_head] * share[~is_head, None])
    return merged
