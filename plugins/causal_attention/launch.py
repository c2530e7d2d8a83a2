"""The column-sum kernels on torch tensors: on a GPU, or on the CPU under Triton's interpreter."""

from __future__ import annotations

from typing import Any

BLOCK = 64
HEAD_BLOCKS = (64, 128)
SUM_BLOCK = 256


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

    from . import kernel

    kv_heads, rows, head_dim = key.shape
    heads = query.shape[1] // head_dim
    head_block = next(block for block in HEAD_BLOCKS if head_dim <= block)
    lse, partial = (torch.empty(heads, rows, device=key.device) for _ in range(2))
    mass = torch.empty(rows, device=key.device)
    sizes = (rows, heads, heads // kv_heads, head_dim, head_dim**-0.5, head_block, BLOCK)
    grid = (triton.cdiv(rows, BLOCK), heads)
    kernel.row_log_sum_exp[grid](query, key, lse, *sizes)
    kernel.column_mass[grid](query, key, lse, partial, *sizes)
    kernel.sum_heads[(triton.cdiv(rows, SUM_BLOCK),)](partial, mass, rows, heads, SUM_BLOCK)
    return mass
