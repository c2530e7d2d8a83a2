"""What the property tests of the reduction ops draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

Array = NDArray[Any]

HUGE = float(np.float32(3e38))
WEIGHTS = (0.0, 1e-45, 1e-38, 1e-30, 1e-3, 1.0, 2.5, 1e30, np.inf)  # also denormal and infinite ones
TIED_SCORES = (-1.0, -0.0, 0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Span:
    """An audio span with rows before and after it, and how many of its rows go."""

    start: int
    length: int
    after: int
    removed: int

    @property
    def rows(self) -> int:
        return self.start + self.length + self.after


@st.composite
def spans(draw: st.DrawFn, most: int = 12) -> Span:
    """Spans at the start, in the middle and at the end, of one row and more."""
    length = draw(st.integers(1, most))
    removed = draw(st.integers(0, length - 1))
    return Span(draw(st.integers(0, 3)), length, draw(st.integers(0, 3)), removed)


def floats(rows: int, width: int, bound: float = HUGE) -> st.SearchStrategy[Array]:
    """(rows, width) of any finite float32 up to `bound`."""
    elements = st.floats(-bound, bound, width=32)
    return hnp.arrays(np.float32, (rows, width), elements=elements)


def scores(count: int) -> st.SearchStrategy[Array]:
    """(count,): all different, often tied, or all equal."""
    tied = hnp.arrays(np.float32, count, elements=st.sampled_from(TIED_SCORES))
    equal = st.sampled_from(TIED_SCORES).map(lambda x: np.full(count, x, np.float32))
    return st.one_of(hnp.arrays(np.float32, count, elements=st.floats(-1, 1, width=32)), tied, equal)


def weights(rows: int) -> st.SearchStrategy[Array]:
    """(rows,): ordinary masses, or anything a softmax could never give."""
    extreme = hnp.arrays(np.float32, rows, elements=st.sampled_from(WEIGHTS).map(np.float32))
    ordinary = hnp.arrays(np.float32, rows, elements=st.floats(2.0**-10, 64, width=32))
    return st.one_of(extreme, ordinary)


@st.composite
def spread_keys(draw: st.DrawFn, span: Span, kv_heads: int = 2, head_dim: int = 3) -> Array:
    """(kv_heads, rows, head_dim): keys whose neighbours differ by angles that are clearly apart.

    So no version can order the similarities differently. The norms range over 60 decades.
    """
    edges = span.rows - 1
    angles = np.pi * (np.array(draw(st.permutations(range(edges))), np.float64) + 0.5) / max(edges, 1)
    turned = np.concatenate([[0.0], np.cumsum(angles)])
    plane = np.linalg.qr(
        np.random.default_rng(draw(st.integers(0, 99))).normal(size=(kv_heads * head_dim, 2))
    )
    keys = np.stack([np.cos(turned), np.sin(turned)], axis=1) @ plane[0].T  # (rows, kv_heads * head_dim)
    norm = draw(st.lists(st.sampled_from([1e-30, 1.0, 1e30]), min_size=span.rows, max_size=span.rows))
    keys *= np.array(norm)[:, None]
    key: Array = keys.reshape(span.rows, kv_heads, head_dim).transpose(1, 0, 2).astype(np.float32)
    return key
