"""The column-sum kernels on torch tensors: on a GPU, or on the CPU under Triton's interpreter."""

from __future__ import annotations

from typing import Any

from ..launch import launch


def attention_mass(query: Any, key: Any) -> Any:
    """Column sums of the causal attention probabilities over all heads and rows.

    Args:
        query: (rows, heads * head_dim), float32, float16 or bfloat16.
        key: in KV layout, of the same type; head_dim at most 128.

    Returns:
        (rows,) of float32.
    """
    import torch
    import triton

    kv_heads, rows, head_dim = key.shape
    heads = query.shape[1] // head_dim
    lse, partial = (torch.empty(heads, rows, device=key.device) for _ in range(2))
    mass = torch.empty(rows, device=key.device)
    sizes = rows, heads, heads // kv_heads, head_dim, head_dim**-0.5

    def blocks_of_heads(block: int) -> tuple[int, int]:
        return triton.cdiv(rows, block), heads

    launch("row_log_sum_exp", blocks_of_heads, query, key, lse, *sizes)
    launch("column_mass", blocks_of_heads, query, key, lse, partial, *sizes)
    launch("sum_heads", lambda block: (triton.cdiv(rows, block),), partial, mass, rows, heads)
    return mass
