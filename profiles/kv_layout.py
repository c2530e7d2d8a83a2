"""KV layout: the axes of a tensor of keys or values of one layer, and what a row of it is.

A row is what a layer keeps of one position: `head_dim` numbers for each KV head, those of a key rotated for
the position. The rows of a head follow each other, because attention reads them head by head. One request has
one prefix, and all its beams append to one pool; where several requests share a step, these are stacked along
an axis in front.

Graphs and ops are built for this order, so another one means other graphs. On the host nothing else knows it:
the signature, the cache and the sessions take shapes and rows from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Protocol, TypeVar

from .flops import DecoderDims

KV_LAYOUT = ("kv_heads", "rows", "head_dim")
ROWS_AXIS = KV_LAYOUT.index("rows")

Size = TypeVar("Size", int, str)
Array = TypeVar("Array", bound="_Indexed")


class _Indexed(Protocol):
    """An array of any module that is indexed as NumPy's."""

    def __getitem__(self, index: Any, /) -> Any: ...


def kv_shape(dims: DecoderDims, rows: Size) -> tuple[int | Size, ...]:
    """The shape of so many rows; a pool starts with 0, and a signature gives the name of a dynamic axis."""
    sizes: dict[str, int | Size] = {"kv_heads": dims.num_kv_heads, "rows": rows, "head_dim": dims.head_dim}
    return tuple(sizes[axis] for axis in KV_LAYOUT)


def rows_of(shape: Sequence[int]) -> int:
    """How many rows a tensor of this shape holds."""
    return shape[ROWS_AXIS]


def with_rows(shape: Sequence[int], rows: int) -> tuple[int, ...]:
    """The shape of a tensor that differs in the number of its rows."""
    return (*shape[:ROWS_AXIS], rows, *shape[ROWS_AXIS + 1 :])


def take_rows(tensor: Array, rows: Any) -> Array:
    """Some rows of an array; `rows` are indices, a slice or a mask."""
    taken: Array = tensor[(*[slice(None)] * ROWS_AXIS, rows)]
    return taken


def blocks_of(shape: Sequence[int]) -> tuple[int, int]:
    """How rows lie in memory: in how many blocks, and how many numbers each row has in a block.

    Within a block the rows follow each other without gaps, and block follows block.
    """
    return prod(shape[:ROWS_AXIS]), prod(shape[ROWS_AXIS + 1 :])
