"""Positions of rows, and the rotary angles that they make.

Positions are left aligned in every layer: row i of a layer has position i, and a decode step continues
from that layer's own cache length. So a layer's cache needs no record of what was merged before it. A cache
that rows are evicted from holds its keys as many positions earlier, and so does a layer whose rows keep their
positions while some are gone: distances are all that attention sees.

The factors of log-n are no positions. They follow from how many keys a row sees in its own layer, and so from
its place among the rows of this layer, wherever it stands: kept positions change nothing of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import log
from typing import Any

import numpy as np
import numpy.typing as npt

from ...plugins.body import FLOAT, Value
from ...profiles.signature import ROPE_ALPHA
from .graph import Graph


@dataclass(frozen=True)
class Angles:
    """Rotary angles of some rows, each (1, rows, head_dim / 2)."""

    cos: Value
    sin: Value


@dataclass(frozen=True)
class Rotary:
    """The rotary embedding of a decoder."""

    g: Graph
    head_dim: int
    theta: float
    interleaved: bool = False  # whether neighbours make pairs, not the halves of a head
    sorts_pairs: bool = False  # whether interleaved heads are brought into halves first
    grows: bool = False  # whether a request gives the factor of the base
    rotated: int | None = None  # the first numbers of a head, whose halves make the pairs; None: all

    def angles(self, positions: Value, name: str) -> Angles:
        """Angles at float32 positions, which reshape to (1, rows, 1), of each pair that is rotated."""
        g = self.g
        rows = g.reshape(positions, 1, -1, 1)
        frequencies = self._grown if self.grows else g.const(self._frequencies, np.float32)
        angle = g.op("Mul", rows, frequencies, name=name)
        cos, sin = (g.op(function, angle, name=name) for function in ("Cos", "Sin"))
        return Angles(g.to_activation(cos), g.to_activation(sin))

    @property
    def _frequencies(self) -> npt.NDArray[np.float32]:
        """Radians per position of each pair of numbers: (rotated / 2,)."""
        width = self.rotated or self.head_dim
        exponents = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
        frequencies: npt.NDArray[np.float32] = 1.0 / np.float32(self.theta) ** exponents
        return frequencies

    @cached_property
    def _grown(self) -> Value:
        """The frequencies of the base times alpha^(hd / (hd - 2)): each times alpha^(-2k / (hd - 2))."""
        g = self.g
        exponents = np.arange(0, self.head_dim, 2) / (2 - self.head_dim)
        factors = g.op("Pow", ROPE_ALPHA, g.const(exponents, np.float32), name="/rope/alpha")
        return g.op("Mul", g.const(self._frequencies, np.float32), factors, name="/rope/frequencies")

    def rotate(self, x: Value, heads: int, angles: Angles, name: str) -> Value:
        """Rows (rows, heads * head_dim), rotated.

        Heads that were brought into halves stay so: only queries and keys are rotated, and their products
        do not depend on the order within a head.
        """
        g = self.g
        if sorted_ := self.interleaved and self.sorts_pairs:
            pairs = g.reshape(x, -1, heads, self.head_dim // 2, 2)
            halves = g.op("Transpose", pairs, name=f"{name}/halves", perm=[0, 1, 3, 2])
            x = g.reshape(halves, -1, heads * self.head_dim)
        batched = g.op("Unsqueeze", x, g.ints(0))
        part: dict[str, Any] = {"rotary_embedding_dim": self.rotated} if self.rotated else {}
        rotated = g.op(
            "RotaryEmbedding",
            batched,
            angles.cos,
            angles.sin,
            name=name,
            num_heads=heads,
            interleaved=int(self.interleaved and not sorted_),
            **part,
        )
        return g.reshape(rotated, -1, heads * self.head_dim)

    def first(self, angles: Angles, rows: Value) -> Angles:
        """The first ones, as many as there are `rows`."""
        g, count = self.g, self.g.dim(rows, 0)
        cos, sin = (g.slice(table, g.ints(0), count, 1) for table in (angles.cos, angles.sin))
        return Angles(cos, sin)

    def last(self, angles: Angles) -> Angles:
        """Those of the last row."""
        g = self.g
        cos, sin = (g.op("Gather", table, g.ints(-1), axis=1) for table in (angles.cos, angles.sin))
        return Angles(cos, sin)


@dataclass(frozen=True)
class LogN:
    """Factors of queries, log_S of the number of keys that a row sees: 1 up to S of them."""

    g: Graph
    trained_rows: int  # S

    def factors(self, keys: Value, name: str) -> Value:
        """Float32, of as many keys each, float32 too: 1 + ln(max(keys / S, 1)) / ln S, exactly 1 up to S."""
        g, one = self.g, self.g.const(1, np.float32)
        beyond = g.op("Max", g.op("Div", keys, g.const(self.trained_rows, np.float32)), one)
        share = g.op("Mul", g.op("Log", beyond, name=name), g.const(1 / log(self.trained_rows), np.float32))
        return g.op("Add", share, one, name=name)

    def scale(self, query: Value, factors: Value, name: str) -> Value:
        """Query rows (rows, width) times factors (rows, 1), in float32."""
        g = self.g
        return g.to_activation(g.op("Mul", g.to_float(query), factors, name=name))


def prompt_positions(g: Graph, rows: Value) -> Value:
    """The positions of all rows of a prompt, as float32: (rows, 1)."""
    last = g.op("Squeeze", g.dim(rows, 0), g.ints(0))
    index = g.op("Cast", g.op("Range", g.const(0), last, g.const(1)), to=FLOAT)
    return g.reshape(index, -1, 1)


def earlier(g: Graph, positions: Value, by: Value) -> Value:
    """Positions so far before `positions`; `by` is int64 of shape (1,)."""
    return g.op("Sub", positions, g.op("Cast", by, to=FLOAT))
