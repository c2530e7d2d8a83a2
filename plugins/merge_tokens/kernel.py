"""Merging on a GPU: similarities, the chosen edges by counting, cluster starts, weighted means."""

import triton
import triton.language as tl

from .op import LARGEST_WEIGHT, SMALLEST_NORM, SMALLEST_WEIGHT

LARGEST = tl.constexpr(LARGEST_WEIGHT)
SMALLEST = tl.constexpr(SMALLEST_WEIGHT)
LEAST_NORM = tl.constexpr(SMALLEST_NORM)
CHUNK = tl.constexpr(16)  # edges that are compared with at once


@triton.jit
def _key(key, row, rows, head, head_dim, BLOCK_D: tl.constexpr):
    """One head of one key in float32: (BLOCK_D,)."""
    dim = tl.arange(0, BLOCK_D)
    place = (head.to(tl.int64) * rows + row) * head_dim + dim
    return tl.load(key + place, mask=dim < head_dim, other=0.0).to(tl.float32)


@triton.jit
def edge_similarity(key, similarity, rows, start, length, kv_heads, head_dim, BLOCK_D: tl.constexpr):
    """similarity (length - 1,): cosines in key (kv_heads, rows, head_dim). Grid: (length - 1,)."""
    edge = tl.program_id(0)
    row = start + edge
    left_scale, right_scale = 0.0, 0.0
    for h in range(kv_heads):
        head = edge * 0 + h
        left_scale = tl.maximum(left_scale, tl.max(tl.abs(_key(key, row, rows, head, head_dim, BLOCK_D)), 0))
        right_scale = tl.maximum(
            right_scale, tl.max(tl.abs(_key(key, row + 1, rows, head, head_dim, BLOCK_D)), 0)
        )
    left_scale, right_scale = tl.maximum(left_scale, LEAST_NORM), tl.maximum(right_scale, LEAST_NORM)
    dot, left_norm, right_norm = 0.0, 0.0, 0.0
    for h in range(kv_heads):
        head = edge * 0 + h
        left = _key(key, row, rows, head, head_dim, BLOCK_D) / left_scale
        right = _key(key, row + 1, rows, head, head_dim, BLOCK_D) / right_scale
        dot += tl.sum(left * right, 0)
        left_norm += tl.sum(left * left, 0)
        right_norm += tl.sum(right * right, 0)
    left_norm = tl.maximum(tl.sqrt(left_norm), LEAST_NORM)
    right_norm = tl.maximum(tl.sqrt(right_norm), LEAST_NORM)
    tl.store(similarity + edge, dot / left_norm / right_norm)


@triton.jit
def choose_edges(similarity, is_head, rows, start, length, removed, BLOCK: tl.constexpr):
    """is_head (rows,): 0 for the second row of each of the `removed` largest edges, 1 elsewhere.

    The rank of an edge is the number of larger ones, and of equal ones of a lower index: the count
    is exact for any length. NaN counts as the smallest. Grid: (row blocks,).
    """
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    edge = row - start - 1
    is_second = (edge >= 0) & (edge < length - 1)
    mine = tl.load(similarity + edge, mask=is_second, other=0.0)
    mine = tl.where(mine == mine, mine, float("-inf"))
    rank = tl.zeros((BLOCK,), tl.int32)
    for first in range(0, length - 1, CHUNK):
        other = first + tl.arange(0, CHUNK)
        value = tl.load(similarity + other, mask=other < length - 1, other=0.0)
        value = tl.where(value == value, value, float("-inf"))[None, :]
        ahead = (value > mine[:, None]) | ((value == mine[:, None]) & (other[None, :] < edge[:, None]))
        rank += tl.sum((ahead & (other[None, :] < length - 1)).to(tl.int32), 1)
    chosen = is_second & (rank < removed)
    tl.store(is_head + row, tl.where(chosen, 0, 1), mask=row < rows)


@triton.jit
def cluster_starts(is_head, starts, rows, kept, BLOCK: tl.constexpr):
    """starts (kept + 1,): the first row of each cluster, then `rows`. Grid: (1,)."""
    before = 0
    for first in range(0, rows, BLOCK):
        row = first + tl.arange(0, BLOCK)
        head = tl.load(is_head + row, mask=row < rows, other=0)
        cluster = before + tl.cumsum(head, 0) - 1
        tl.store(starts + cluster, row, mask=(row < rows) & (head == 1))
        before += tl.sum(head, 0)
    tl.store(starts + kept, rows)


@triton.jit
def _weight(weight, row):
    """A weight within its bounds; NaN fails the comparison and becomes the smallest."""
    found = tl.load(weight + row)
    return tl.minimum(tl.where(found > SMALLEST, found, SMALLEST), LARGEST)


@triton.jit
def merge_rows(hidden, weight, starts, merged, width, BLOCK: tl.constexpr):
    """merged (kept, width): each cluster's weighted mean. Grid: (kept, width blocks)."""
    cluster = tl.program_id(0)
    first, end = tl.load(starts + cluster), tl.load(starts + cluster + 1)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    target = merged + cluster.to(tl.int64) * width + column
    if end - first == 1:
        tl.store(target, tl.load(hidden + first.to(tl.int64) * width + column, mask=inside), mask=inside)
    else:
        total = 0.0
        for row in range(first, end):
            total += _weight(weight, row)
        mean = tl.zeros((BLOCK,), tl.float32)
        for row in range(first, end):
            x = tl.load(hidden + tl.cast(row, tl.int64) * width + column, mask=inside, other=0.0)
            mean += x.to(tl.float32) * (_weight(weight, row) / total)
        tl.store(target, mean.to(merged.dtype.element_ty), mask=inside)
