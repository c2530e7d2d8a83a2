"""Merging on a GPU: similarities, the chosen rows by counting, where clusters start, weighted means."""

import triton
import triton.language as tl

from .op import LARGEST_WEIGHT, SMALLEST_NORM, SMALLEST_WEIGHT

LARGEST = tl.constexpr(LARGEST_WEIGHT)
SMALLEST = tl.constexpr(SMALLEST_WEIGHT)
LEAST_NORM = tl.constexpr(SMALLEST_NORM)
CHUNK = tl.constexpr(16)  # scores that are compared with at once


@triton.jit
def _key(key, row, rows, head, head_dim, BLOCK_D: tl.constexpr):
    """One head of one key in float32: (BLOCK_D,)."""
    dim = tl.arange(0, BLOCK_D)
    place = (head.to(tl.int64) * rows + row) * head_dim + dim
    return tl.load(key + place, mask=dim < head_dim, other=0.0).to(tl.float32)


@triton.jit
def edge_similarity(key, similarity, rows, start, length, kv_heads, head_dim, BLOCK_D: tl.constexpr):
    """similarity (length - 1,): cosines in key, which is in KV layout. Grid: (length - 1,)."""
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
def _order(score, place, inside, sign):
    """sign * score, where NaN counts as the smallest score."""
    found = tl.load(score + place, mask=inside, other=0.0)
    return tl.where(found == found, found, float("-inf")) * sign


@triton.jit
def choose_rows(score, stays, rows, first, count, removed, sign, BLOCK: tl.constexpr):
    """stays (rows,): 0 for the `removed` rows of the largest sign * score, 1 elsewhere.

    score (count,) belongs to the rows from `first` on. A row is behind all that are larger, and behind equal
    ones of a lower index: counting them is exact for any length. Grid: (row blocks,).
    """
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    place = row - first
    scored = (place >= 0) & (place < count)
    mine = _order(score, place, scored, sign)[:, None]
    rank = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, count, CHUNK):
        other = start + tl.arange(0, CHUNK)
        value = _order(score, other, other < count, sign)[None, :]
        ahead = (value > mine) | ((value == mine) & (other[None, :] < place[:, None]))
        rank += tl.sum((ahead & (other[None, :] < count)).to(tl.int32), 1)
    tl.store(stays + row, tl.where(scored & (rank < removed), 0, 1), mask=row < rows)


@triton.jit
def row_starts(stays, starts, rows, kept, BLOCK: tl.constexpr):
    """starts (kept + 1,): the rows that stay, in order, then `rows`. Grid: (1,).

    In a merge they are the first rows of the clusters: cluster i ends where cluster i + 1 starts.
    """
    before = 0
    for first in range(0, rows, BLOCK):
        row = first + tl.arange(0, BLOCK)
        here = tl.load(stays + row, mask=row < rows, other=0)
        place = before + tl.cumsum(here, 0) - 1
        tl.store(starts + place, row, mask=(row < rows) & (here == 1))
        before += tl.sum(here, 0)
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
