"""Eviction on a GPU: the rows that stay are copied; `merge_tokens.kernel` chooses and lists them."""

import triton
import triton.language as tl


@triton.jit
def copy_rows(hidden, starts, copied, width, BLOCK: tl.constexpr):
    """copied (kept, width): row i is row starts[i] of hidden, bit by bit. Grid: (kept, width blocks)."""
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    source = hidden + tl.load(starts + row).to(tl.int64) * width + column
    target = copied + row.to(tl.int64) * width + column
    tl.store(target, tl.load(source, mask=column < width), mask=column < width)
