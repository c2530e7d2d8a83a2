"""Frames and rows in pieces of one length, and the rows of all pieces behind one another."""

from __future__ import annotations

from ....plugins.body import Value
from ....profiles.signature import ENCODER_ROWS, MEL
from ..graph import Graph


def places_of(g: Graph, x: str, size: int, axis: int) -> Value:
    """Places along an axis, and those that fill up the last piece of this size: int64, (places,)."""
    whole = g.op("Squeeze", _whole(g, x, size, axis), g.ints(0))
    return g.op("Range", g.const(0), whole, g.const(1))


def chunks_of(g: Graph, size: int) -> Value:
    """The frames of a window in chunks, the last one filled up with zeros: (chunks, mel bins, size).

    They are filled up in float32: the CUDA provider pads no bf16.
    """
    missing = g.op("Sub", _whole(g, MEL, size, 1), g.dim(MEL, 1))
    filled = g.to_activation(g.op("Pad", MEL, g.shape(0, 0, 0, missing)))
    frames = g.reshape(g.op("Transpose", filled, perm=[1, 0]), -1, size, g.dim(MEL, 0))
    return g.op("Transpose", frames, perm=[0, 2, 1])


def rows_of_chunks(g: Graph, x: Value, positions: Value, width: int) -> Value:
    """Rows of chunks (chunks, rows of a chunk, width), with positions, to those that carry audio."""
    rows = g.reshape(g.op("Add", x, positions, name="/encoder/positions"), -1, width)
    return g.op("Slice", rows, g.ints(0), ENCODER_ROWS, g.ints(0), name="/encoder/embed_positions")


def _whole(g: Graph, x: str, size: int, axis: int) -> Value:
    """Places along an axis, with those that fill up the last piece: int64 of shape (1,)."""
    pieces = g.op("Div", g.op("Add", g.dim(x, axis), g.ints(size - 1)), g.ints(size))
    return g.op("Mul", pieces, g.ints(size))
