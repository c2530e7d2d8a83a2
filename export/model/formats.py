"""The weight formats by name; quick to import, so that a command line has them."""

from __future__ import annotations

from collections.abc import Iterator

from ...profiles.faults import shown

QUANTIZED = ("int8", "int4")
INT4_BLOCKS = (32, 64, 128)
"""Inputs that share a scale, the default first: larger blocks are smaller and faster, and less exact."""


def int4_block_faults(quantize: str | None, block: int) -> Iterator[str]:
    """What is wrong with a block of int4 beside a format."""
    if block not in INT4_BLOCKS:
        yield f"int4_block {shown(block)} is unknown; choose {', '.join(map(str, INT4_BLOCKS))}"
    elif block != INT4_BLOCKS[0] and quantize != "int4":
        yield f"int4_block {block}: it is for quantize int4; leave it out, or give quantize int4"
