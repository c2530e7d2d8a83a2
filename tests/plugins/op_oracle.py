"""The ops once more, in float64 and plain loops, as the method describes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastadasp.plugins.merge_tokens.op import LARGEST_WEIGHT, SMALLEST_WEIGHT

Array = NDArray[Any]
Clusters = list[list[int]]


def edge_similarity(key: Array, start: int, length: int) -> list[float]:
    """Cosine of each pair of neighbouring keys, all heads concatenated."""
    vectors = [np.concatenate(list(key[:, start + i].astype(np.float64))) for i in range(length)]
    cosines = []
    for i in range(length - 1):
        left, right = vectors[i], vectors[i + 1]
        norms = np.sqrt(left @ left) * np.sqrt(right @ right)
        cosines.append(float(left @ right / norms) if norms > 0 else 0.0)
    return cosines


def chosen_edges(score: Sequence[float] | Array, count: int) -> list[int]:
    """The edges of the largest score, the lower index first among equals; in order of position."""
    return sorted(sorted(range(len(score)), key=lambda i: (-score[i], i))[:count])


def runs(rows: int, start: int, edges: Sequence[int]) -> Clusters:
    """Rows that a chain of chosen edges connects are one cluster."""
    clusters: Clusters = []
    for row in range(rows):
        if row - start - 1 in edges:
            clusters[-1].append(row)
        else:
            clusters.append([row])
    return clusters


def greedy_pairs(rows: int, start: int, edges: Sequence[int]) -> Clusters:
    """From left to right, a chosen edge joins its two rows unless one of them is taken."""
    taken: set[int] = set()
    clusters = [[row] for row in range(rows)]
    for edge in sorted(edges):
        left, right = start + edge, start + edge + 1
        if left not in taken and right not in taken:
            taken |= {left, right}
            clusters[left].append(right)
            clusters[right] = []
    return [cluster for cluster in clusters if cluster]


def weighted_means(hidden: Array, weight: Sequence[float] | Array, clusters: Clusters) -> Array:
    """sum(w h) / sum(w) over each cluster; a weight outside the range counts as the end of the range."""
    means = []
    for cluster in clusters:
        total, mass = np.zeros(hidden.shape[1]), 0.0
        for row in cluster:
            w = min(max(float(weight[row]), SMALLEST_WEIGHT), LARGEST_WEIGHT)
            total += w * hidden[row].astype(np.float64)
            mass += w
        means.append(total / mass)
    return np.array(means)


def kept_rows(rows: int, start: int, score: Array, removed: int) -> list[int]:
    """All rows but those of the smallest score; the lower index goes first among equals."""
    dropped = sorted(range(len(score)), key=lambda i: (score[i], i))[:removed]
    return [row for row in range(rows) if row - start not in dropped]


def kept_in_head(cache: Array, start: int, score: Array, removed: int) -> Array:
    """(kv_heads, kept, head_dim): each head without the rows of its own smallest score."""
    rows = cache.shape[1]
    return np.stack(
        [head[kept_rows(rows, start, own, removed)] for head, own in zip(cache, score, strict=True)]
    )


def random_score(count: int, seed: int) -> list[float]:
    """The 24 high bits of a 31-bit hash of index and seed, as a fraction."""
    scores = []
    for i in range(1, count + 1):
        x = (i * 0x9E3779B1 + seed * 0x85EBCA6B) % 2**31
        x = (x ^ (x >> 15)) * 0x45D9F3B % 2**31
        x = (x ^ (x >> 15)) * 0x2C1B3C6D % 2**31
        scores.append((x ^ (x >> 15)) // 2**7 / 2**24)
    return scores


def probabilities(q: Array, key: Array, bias: Array | float = 0.0) -> Array:
    """Softmax of one query row over the rows of `key`, float64."""
    scores = key.astype(np.float64) @ q.astype(np.float64) / np.sqrt(len(q)) + bias
    exponentials: Array = np.exp(scores - scores.max())
    share: Array = exponentials / exponentials.sum()
    return share


def attention(
    query: Array, key: Array, value: Array, visible: Callable[[int], Array | slice]
) -> tuple[Array, Array]:
    """Output, and column sums of each key/value head, where query row i sees the rows `visible(i)`.

    query (queries, heads * head_dim); key and value (kv_heads, rows, head_dim): query head h reads
    key/value head h // group.
    """
    kv_heads, rows, head_dim = key.shape
    heads = query.shape[1] // head_dim
    output, mass = np.zeros(query.shape), np.zeros((kv_heads, rows))
    for i in range(len(query)):
        for head in range(heads):
            columns = slice(head * head_dim, (head + 1) * head_dim)
            source, seen = head // (heads // kv_heads), visible(i)
            p = probabilities(query[i, columns], key[source, seen])
            mass[source, seen] += p
            output[i, columns] = p @ value[source, seen].astype(np.float64)
    return output, mass


def gated_mlp(x: Array, gate: Array, up: Array, down: Array) -> Array:
    """down(silu(gate(x)) * up(x)), row by row."""
    output = np.zeros((len(x), len(down)))
    for i, row in enumerate(x.astype(np.float64)):
        opened = gate.astype(np.float64) @ row
        sigmoid = np.array([1 / (1 + np.exp(-z)) if z > 0 else np.exp(z) / (1 + np.exp(z)) for z in opened])
        output[i] = down.astype(np.float64) @ (opened * sigmoid * (up.astype(np.float64) @ row))
    return output
