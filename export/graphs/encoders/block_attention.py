"""Attention within blocks of rows: no score between two blocks is ever computed or held."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....plugins.body import Value
from ..graph import Graph
from .chunks import places_of

HIDDEN = -1e30  # added to the scores of rows that fill up the last block


@dataclass(frozen=True)
class Blocks:
    """Into which blocks rows are cut; the last one may have fewer."""

    size: int
    places: Value  # of all rows, the last one again and again to fill up its block: (blocks * size,)
    mask: Value  # what hides the places after the last row: (blocks, 1, 1, size), float32


def blocks_of(g: Graph, x: str, size: int) -> Blocks:
    """Those of rows (rows, width)."""
    places, rows = places_of(g, x, size, 0), g.dim(x, 0)
    held = g.op("Min", places, g.op("Sub", rows, g.ints(1)))
    real = g.op("Less", places, rows)
    mask = g.op("Where", real, g.const(0, np.float32), g.const(HIDDEN, np.float32))
    return Blocks(size, held, g.reshape(mask, -1, 1, 1, size))


def append_block_attention(
    g: Graph, name: str, heads: tuple[int, int], blocks: Blocks, query: str, key: str, value: str
) -> Value:
    """Bidirectional attention of each row to those of its own block.

    Args:
        g: the graph.
        name: of its nodes.
        heads: how many, and head_dim.
        blocks: of the rows.
        query: rows (rows, heads * head_dim), as the other two are.
        key: rows.
        value: rows.
    """
    num_heads, head_dim = heads
    scaled = g.op("Mul", query, g.number(head_dim**-0.5), name=f"{name}/scale")
    q, k, v = (
        g.reshape(g.op("Gather", x, blocks.places, axis=0), -1, blocks.size, num_heads, head_dim)
        for x in (scaled, key, value)
    )
    q, v = (g.op("Transpose", x, perm=[0, 2, 1, 3]) for x in (q, v))
    scores = g.op("MatMul", q, g.op("Transpose", k, perm=[0, 2, 3, 1]), name=f"{name}/scores")
    scores = g.op("Add", g.to_float(scores), blocks.mask, name=f"{name}/mask")
    shares = g.to_activation(g.op("Softmax", scores, axis=-1, name=name))
    attended = g.op("Transpose", g.op("MatMul", shares, v, name=f"{name}/value"), perm=[0, 2, 1, 3])
    return g.slice(g.reshape(attended, -1, num_heads * head_dim), g.ints(0), g.dim(query, 0), 0)
