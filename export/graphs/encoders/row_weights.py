"""How much attention the rows of an encoder get in its last layer, of which fused attention says nothing.

What it computes over again is one product of queries and keys, in a Loop over the heads, so that no more
than a few matrices of scores exist at once. Graphs for targets that are not good at that have no method that
asks for it.
"""

from __future__ import annotations

import numpy as np

from ....plugins.body import BOOL, FLOAT, INT64, Body, Value, value
from ....profiles.signature import ENCODER_ROWS, ROW_WEIGHTS
from ....runtime.audio.front_end import FrontEnd
from ..graph import Graph

NAME = "/encoder/row_weights"


def append_row_weights(
    g: Graph, heads: tuple[int, int], front_end: FrontEnd, query: Value, key: Value
) -> None:
    """Write `row_weights`: the column means and the diagonal of the attention, pooled as the rows are.

    Of each pair of rows the head counts in which the one attends to the other most (SA-MAP). Rows that are
    no part of a token are left out, silence that fills up a window among them; shares are of all attention,
    though. Rows that are set around the tokens get 0.

    Args:
        g: the graph of the encoder.
        heads: of its layers, how many, and head_dim.
        front_end: how many rows make a token.
        query: of the last layer, (rows, heads * head_dim).
        key: the same.
    """
    size = front_end.rows_per_token
    tokens = g.op("Div", ENCODER_ROWS, g.ints(size))
    pooled = g.op("Mul", tokens, g.ints(size))
    most = _most_of_all_heads(g, heads, g.slice(query, g.ints(0), pooled, 0), key)
    squares = g.reshape(g.slice(most, g.ints(0), pooled, 1), tokens, size, tokens, size)
    shares = g.op("ReduceMean", squares, g.ints(1, 3), keepdims=0, name=f"{NAME}/pool")
    token = g.range(tokens)
    on_diagonal = g.op("Mul", token, g.op("Add", tokens, g.ints(1)))
    diagonal = g.op("Gather", g.reshape(shares, -1), on_diagonal, axis=0)
    columns = g.op("ReduceMean", shares, g.ints(0), keepdims=0)
    both = g.op("Concat", *(g.op("Unsqueeze", x, g.ints(1)) for x in (columns, diagonal)), axis=1)
    around = g.ints(front_end.bos_rows, 0, front_end.eos_rows, 0)
    g.op("Pad", both, around, name=NAME, outputs=[ROW_WEIGHTS])


def _most_of_all_heads(g: Graph, heads: tuple[int, int], query: Value, key: Value) -> Value:
    """The largest probability of all heads, float32 of shape (queries, rows)."""
    num_heads, width = heads
    scaled = g.op("Mul", query, g.number(width**-0.5), name=f"{NAME}/scale")
    q = g.op("Transpose", g.reshape(scaled, -1, num_heads, width), perm=[1, 0, 2])
    k = g.op("Transpose", g.reshape(key, -1, num_heads, width), perm=[1, 2, 0])
    step = Body(f"{NAME}/")
    of_head = (step.op("Gather", x, f"{NAME}/head", axis=0) for x in (q, k))
    shares = step.op("Softmax", step.op("MatMul", *of_head), axis=-1)
    most = step.op("Max", f"{NAME}/most", shares)
    inputs = [value(f"{NAME}/head", INT64, []), value(f"{NAME}/go", BOOL, [])]
    inputs += [value(f"{NAME}/most", FLOAT, [None, None])]
    nothing = g.op("Expand", g.const([[0.0]], np.float32), g.shape(g.dim(query, 0), g.dim(key, 0)))
    return g.loop(g.ints(num_heads), step, inputs, [value(most, FLOAT, [None, None])], [nothing])[0]
