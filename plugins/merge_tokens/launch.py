"""The merge kernels on torch tensors: on a GPU, or on the CPU under Triton's interpreter."""

from __future__ import annotations

from typing import Any

HEAD_BLOCKS = (64, 128)
CHOOSE_BLOCK, SCAN_BLOCK, WIDTH_BLOCK = 256, 1024, 512


def merge_tokens(hidden: Any, key: Any, weight: Any, start: int, length: int, removed: int) -> Any:
    """Merge along the most similar neighbouring keys, as `reference.merge_tokens` defines it.

    Args:
        hidden: (rows, hidden_size), float32, float16 or bfloat16.
        key: (kv_heads, rows, head_dim), of the same type; head_dim at most 128.
        weight: (rows,) of float32.
        start: first row of the span.
        length: rows of the span.
        removed: rows to remove, at most length - 1.

    Returns:
        (rows - removed, hidden_size), of the type of `hidden`.
    """
    import torch
    import triton

    from . import kernel

    (rows, width), (kv_heads, _, head_dim) = hidden.shape, key.shape
    kept, head_block = rows - removed, next(block for block in HEAD_BLOCKS if head_dim <= block)
    similarity = torch.empty(max(length - 1, 1), device=key.device)
    is_head, starts = (torch.empty(n, dtype=torch.int32, device=key.device) for n in (rows, kept + 1))
    merged = torch.empty(kept, width, dtype=hidden.dtype, device=key.device)
    if length > 1:
        sizes = (rows, start, length, kv_heads, head_dim, head_block)
        kernel.edge_similarity[(length - 1,)](key, similarity, *sizes)
    blocks = (triton.cdiv(rows, CHOOSE_BLOCK),)
    kernel.choose_edges[blocks](similarity, is_head, rows, start, length, removed, CHOOSE_BLOCK)
    kernel.cluster_starts[(1,)](is_head, starts, rows, kept, SCAN_BLOCK)
    grid = (kept, triton.cdiv(width, WIDTH_BLOCK))
    kernel.merge_rows[grid](hidden, weight, starts, merged, width, WIDTH_BLOCK)
    return merged
