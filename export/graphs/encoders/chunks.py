"""Frames and rows in pieces of one length, and the rows of all pieces behind one another."""

from __future__ import annotations

from ....plugins.body import Value
from ....profiles.signature import ENCODER_ROWS, MEL
from ..graph import Graph


def filled(g: Graph, x: str, size: int, axis: int) -> Value:
    """A tensor of two axes with zeros behind it along one of them, to whole pieces of this size."""
    missing = g.op("Sub", _whole(g, x, size, axis), g.dim(x, axis))
    ends: list[int | str] = [0, 0, 0, 0]
    ends[2 + axis] = missing
    return g.op("Pad", x, g.shape(*ends))


def is_real(g: Graph, x: str, size: int, axis: int) -> Value:
    """Of each place along that axis of the filled tensor, whether it is one of `x`: bool, (places,)."""
    places = g.op("Squeeze", _whole(g, x, size, axis), g.ints(0))
    return g.op("Less", g.op("Range", g.const(0), places, g.const(1)), g.dim(x, axis))


def chunks_of(g: Graph, size: int) -> Value:
    """The frames of a window in chunks, the last one filled up with zeros: (chunks, mel bins, size)."""
    frames = g.op("Transpose", filled(g, g.to_activation(MEL), size, 1), perm=[1, 0])
    return g.op("Transpose", g.reshape(frames, -1, size, g.dim(MEL, 0)), perm=[0, 2, 1])


def rows_of_chunks(g: Graph, x: Value, positions: Value, width: int) -> Value:
    """Rows of chunks (chunks, rows of a chunk, width), with positions, to those that carry audio."""
    rows = g.reshape(g.op("Add", x, positions, name="/encoder/positions"), -1, width)
    return g.op("Slice", rows, g.ints(0), ENCODER_ROWS, g.ints(0), name="/encoder/embed_positions")


def _whole(g: Graph, x: str, size: int, axis: int) -> Value:
    """Places along an axis, with those that fill up the last piece: int64 of shape (1,)."""
    pieces = g.op("Div", g.op("Add", g.dim(x, axis), g.ints(size - 1)), g.ints(size))
    return g.op("Mul", pieces, g.ints(size))
