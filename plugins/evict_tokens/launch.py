"""The eviction kernels on torch tensors: on a GPU, or on the CPU under Triton's interpreter."""

from __future__ import annotations

from typing import Any

from ..launch import launch
from ..merge_tokens.launch import rows_that_stay

SMALLEST_FIRST = -1.0


def evict_tokens(hidden: Any, score: Any, start: int, length: int, removed: int) -> Any:
    """Drop the rows of the smallest score, as `reference.evict_tokens` defines it.

    Args:
        hidden: (rows, hidden_size), float32, float16 or bfloat16.
        score: (length,) of float32.
        start: first row of the span.
        length: rows of the span.
        removed: rows to drop, at most length - 1.

    Returns:
        (rows - removed, hidden_size), of the type of `hidden`.
    """
    import triton

    rows, width = hidden.shape
    starts = rows_that_stay(score, rows, start, length, removed, SMALLEST_FIRST)
    copied = hidden.new_empty(rows - removed, width)

    def grid(block: int) -> tuple[int, int]:
        return rows - removed, triton.cdiv(width, block)

    launch("copy_rows", grid, hidden, starts, copied, width)
    return copied
