"""The merge kernels on torch tensors: on a GPU, or on the CPU under Triton's interpreter."""

from __future__ import annotations

from typing import Any

from ..launch import launch

LARGEST_FIRST = 1.0


def merge_tokens(hidden: Any, key: Any, weight: Any, start: int, length: int, removed: int) -> Any:
    """Merge along the most similar neighbouring keys, as `reference.merge_tokens` defines it.

    Args:
        hidden: (rows, hidden_size), float32, float16 or bfloat16.
        key: in KV layout, of any of these types; head_dim at most 128.
        weight: (rows,) of float32.
        start: first row of the span.
        length: rows of the span.
        removed: rows to remove, at most length - 1.

    Returns:
        (rows - removed, hidden_size), of the type of `hidden`.
    """
    return merge_edges(hidden, edge_similarity(key, start, length), weight, start, length, removed)


def edge_similarity(key: Any, start: int, length: int) -> Any:
    """Cosines of neighbouring keys of the span: (length - 1,) of float32."""
    import torch

    kv_heads, rows, head_dim = key.shape
    similarity = torch.empty(length - 1, device=key.device)
    if length > 1:
        sizes = rows, start, length, kv_heads, head_dim
        launch("edge_similarity", lambda _: (length - 1,), key, similarity, *sizes)
    return similarity


def merge_edges(hidden: Any, score: Any, weight: Any, start: int, length: int, removed: int) -> Any:
    """Merge along the edges of the largest score (length - 1,), as `reference.merge_edges` defines it.

    The other arguments and the result are those of `merge_tokens`.
    """
    import triton

    rows, width = hidden.shape
    starts = rows_that_stay(score, rows, start + 1, length - 1, removed, LARGEST_FIRST)
    merged = hidden.new_empty(rows - removed, width)

    def grid(block: int) -> tuple[int, int]:
        return rows - removed, triton.cdiv(width, block)

    launch("merge_rows", grid, hidden, weight, starts, merged, width)
    return merged


def rows_that_stay(score: Any, rows: int, first: int, count: int, removed: int, sign: float) -> Any:
    """All rows but the `removed` ones of the largest sign * score, then `rows`: (rows - removed + 1,).

    Args:
        score: (count,) of float32, of the rows from `first` on.
        rows: how many there are.
        first: the first row that may go.
        count: how many may go.
        removed: how many do, at most `count`.
        sign: 1 for the largest score first, -1 for the smallest.
    """
    import torch
    import triton

    stays = torch.empty(rows, dtype=torch.int32, device=score.device)
    starts = torch.empty(rows - removed + 1, dtype=torch.int32, device=score.device)
    span = rows, first, count, removed, sign
    launch("choose_rows", lambda block: (triton.cdiv(rows, block),), score, stays, *span)
    launch("row_starts", lambda _: (1,), stays, starts, rows, rows - removed)
    return starts
