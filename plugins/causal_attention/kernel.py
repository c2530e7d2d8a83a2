"""Column sums of causal attention on a GPU: row normalisers, then columns; no atomics, no score matrix."""

import os

import triton
import triton.language as tl

INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")
"""Triton 3.9's interpreter multiplies the bits of bfloat16 as integers: widen them there."""


@triton.jit
def _scores(q, k, scale):
    """q k scaled, in float32."""
    if INTERPRETED:
        q, k = q.to(tl.float32), k.to(tl.float32)
    return tl.dot(q, k, input_precision="ieee") * scale


@triton.jit
def row_log_sum_exp(
    query, key, lse, rows, heads, group, head_dim, scale, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr
):
    """lse (heads, rows): log of the sum of exponentials of each row's visible scores.

    query is (rows, heads * head_dim), key in KV layout. Grid: (row blocks, heads).
    """
    head = tl.program_id(1)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    dim = tl.arange(0, BLOCK_D)
    inside = (row[:, None] < rows) & (dim[None, :] < head_dim)
    place = row[:, None].to(tl.int64) * heads * head_dim + head * head_dim + dim[None, :]
    q = tl.load(query + place, mask=inside, other=0.0)
    largest = tl.full((BLOCK,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    base = (head // group).to(tl.int64) * rows * head_dim
    for first in range(0, (tl.program_id(0) + 1) * BLOCK, BLOCK):
        column = first + tl.arange(0, BLOCK)
        seen = (column[None, :] < rows) & (dim[:, None] < head_dim)
        k = tl.load(key + base + column[None, :].to(tl.int64) * head_dim + dim[:, None], mask=seen, other=0.0)
        scores = _scores(q, k, scale)
        visible = (column[None, :] <= row[:, None]) & (column[None, :] < rows)
        scores = tl.where(visible, scores, float("-inf"))
        new = tl.maximum(largest, tl.max(scores, 1))
        total = total * tl.exp(largest - new) + tl.sum(tl.exp(scores - new[:, None]), 1)
        largest = new
    tl.store(lse + head.to(tl.int64) * rows + row, largest + tl.log(total), mask=row < rows)


@triton.jit
def column_mass(
    query, key, lse, partial, rows, heads, group, head_dim, scale, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr
):
    """partial (heads, rows): column sums of one head's probabilities. Grid: (column blocks, heads)."""
    head = tl.program_id(1)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    dim = tl.arange(0, BLOCK_D)
    base = (head // group).to(tl.int64) * rows * head_dim
    seen = (column[None, :] < rows) & (dim[:, None] < head_dim)
    k = tl.load(key + base + column[None, :].to(tl.int64) * head_dim + dim[:, None], mask=seen, other=0.0)
    mass = tl.zeros((BLOCK,), tl.float32)
    for first in range(tl.program_id(0) * BLOCK, rows, BLOCK):
        row = first + tl.arange(0, BLOCK)
        inside = (row[:, None] < rows) & (dim[None, :] < head_dim)
        place = row[:, None].to(tl.int64) * heads * head_dim + head * head_dim + dim[None, :]
        q = tl.load(query + place, mask=inside, other=0.0)
        normaliser = tl.load(lse + head.to(tl.int64) * rows + row, mask=row < rows, other=0.0)
        scores = _scores(q, k, scale)
        visible = (column[None, :] <= row[:, None]) & (row[:, None] < rows)
        scores = tl.where(visible, scores - normaliser[:, None], float("-inf"))
        mass += tl.sum(tl.exp(scores), 0)
    tl.store(partial + head.to(tl.int64) * rows + column, mass, mask=column < rows)


@triton.jit
def sum_heads(partial, mass, rows, heads, BLOCK: tl.constexpr):
    """mass (rows,): the sum over the heads, always in the same order. Grid: (row blocks,)."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for head in range(heads):
        total += tl.load(partial + head * rows + row, mask=row < rows, other=0.0)
    tl.store(mass + row, total, mask=row < rows)
