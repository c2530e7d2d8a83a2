"""What the plugins are run on, and what they must give: inputs of each type, results of the references."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from fastadasp.plugins.causal_attention.reference import causal_attention
from fastadasp.plugins.evict_tokens.reference import evict_tokens
from fastadasp.plugins.merge_tokens.reference import edge_similarity, merge_edges

Array = NDArray[Any]
DTYPES = {"fp32": np.float32, "fp16": np.float16, "bf16": ml_dtypes.bfloat16, "int64": np.int64}
TYPES = "fp32", "fp16", "bf16"
ROUNDING = {"fp32": 1e-5, "fp16": 1e-3, "bf16": 8e-3}
"""Largest error of a merged row, relative to the largest number of the rows."""
MASS_ERROR = 1e-4
"""Largest relative error of a column sum: inputs are exact in any type; sums of exponentials are float32."""
SPAN_OFFSETS = 2, 1  # start_offset, end_offset
LONG_ROWS, LONG_HEADS, HEAD_DIM = 6000, 32, 128
MOST_AT_ONCE = 16  # heads of the reference, each in 1 GB at 6000 rows
LONG_TEXT = 21, 33  # rows before the audio, and after it


@dataclass(frozen=True)
class Tensor:
    """A tensor of a plugin: its type, its shape, and its numbers, which are made when they are needed."""

    type: str
    shape: tuple[int, ...]
    make: Callable[[], Array] | None = None  # of an input

    def content(self) -> Array:
        """The numbers, contiguous, in their type."""
        assert self.make is not None, "an output has no numbers yet"
        return np.ascontiguousarray(self.make(), DTYPES[self.type])


@dataclass(frozen=True)
class Case:
    """One call of a plugin."""

    name: str
    plugin: str
    inputs: Mapping[str, Tensor]
    output: Tensor
    expected: Callable[[], Array]  # in float64
    tolerance: float  # 0: bit by bit
    of_each: bool = False  # the tolerance is relative to each number, not to the largest input
    attributes: Mapping[str, int] | None = None
    span: tuple[int, int, int] | None = None  # start, length, removed: of a plugin that takes rows away
    is_long: bool = False  # of production's size, and timed

    def error(self, found: Array) -> float:
        """The largest error of an output, in the unit of the tolerance; infinite where it is no number."""
        wanted, scale = self.expected(), 1.0
        if self.tolerance == 0:
            same = found.tobytes() == np.ascontiguousarray(wanted, found.dtype).tobytes()
            return 0.0 if same else float("inf")
        if not self.of_each:
            scale = float(np.abs(self.inputs["hidden"].content().astype(np.float64)).max())
        error = np.abs(found.astype(np.float64) - wanted) / (np.abs(wanted) if self.of_each else scale)
        return float(error.max()) if np.isfinite(error).all() else float("inf")


def small_cases() -> Iterator[Case]:
    """Odd lengths, heads of every width, grouped or not; every type."""
    heads = (4, 2, 40, 131), (2, 1, 64, 63), (3, 1, 96, 1), (2, 2, 80, 257), (8, 2, 128, 333)
    for each, kind in product(heads, TYPES):
        yield _mass(*each, kind)
    spans = (33, 5, 15, 9), (131, 3, 7, 60), (64, 9, 4, 0), (8, 0, 3, 1), (501, 17, 40, 439)
    for (rows, before, after, removed), kind in product(spans, TYPES):
        yield from _reductions(rows, before, after, removed, kind, (37, 2, 40))
    yield _merge_tokens(131, 3, 7, 60, ("fp32", "bf16"), (1, 2, 64))  # positions beside keys of another type


def long_cases() -> Iterator[Case]:
    """Rows of eight minutes of audio and the heads of a 7B model; every type."""
    removed = (LONG_ROWS - sum(LONG_TEXT) - sum(SPAN_OFFSETS)) // 2
    sizes = LONG_HEADS * HEAD_DIM, LONG_HEADS, HEAD_DIM
    for kind in TYPES:
        yield _mass(LONG_HEADS, LONG_HEADS, HEAD_DIM, LONG_ROWS, kind, is_long=True)
        yield from _reductions(LONG_ROWS, *LONG_TEXT, removed, kind, sizes, is_long=True)


def _reductions(
    rows: int,
    before: int,
    after: int,
    removed: int,
    kind: str,
    sizes: tuple[int, int, int],
    is_long: bool = False,
) -> Iterator[Case]:
    span = rows, before, after, removed
    yield _merge_tokens(*span, (kind, kind), sizes, is_long)
    yield _merge_edges(*span, kind, sizes[0], is_long)
    yield _evict(*span, kind, sizes[0], is_long)


def _mass(heads: int, kv_heads: int, dim: int, rows: int, kind: str, is_long: bool = False) -> Case:
    # Long inputs are the same numbers in every type, so that one reference serves all of them.
    form = "bf16" if is_long else kind
    query, key = partial(normal, (rows, heads * dim), form), partial(normal, (kv_heads, rows, dim), form)
    return Case(
        f"AttentionMass {kind}, {rows} rows, {heads} heads of {dim}, {kv_heads} of keys",
        "AttentionMass",
        {"query": Tensor(kind, (rows, heads * dim), query), "key": Tensor(kind, (kv_heads, rows, dim), key)},
        Tensor("fp32", (rows,)),
        partial(column_sums, rows, heads, kv_heads, dim, form),
        MASS_ERROR,
        of_each=True,
        is_long=is_long,
    )


def _merge_tokens(
    rows: int,
    before: int,
    after: int,
    removed: int,
    kinds: tuple[str, str],
    sizes: tuple[int, int, int],
    is_long: bool = False,
) -> Case:
    (kind, key_kind), (width, kv_heads, dim) = kinds, sizes
    hidden, weight = partial(normal, (rows, width), kind), partial(weights, rows)
    start, length = _span(rows, before, after)
    key = partial(spread_keys, (kv_heads, rows, dim), (start, length, removed), key_kind)

    def expected() -> Array:
        score = edge_similarity(_exact(key()), start, length)
        return merge_edges(_exact(hidden()), score, _exact(weight()), start, length, removed)

    inputs = {
        "hidden": Tensor(kind, (rows, width), hidden),
        "key": Tensor(key_kind, (kv_heads, rows, dim), key),
        "weight": Tensor("fp32", (rows,), weight),
    }
    return _reduction(
        "MergeTokens", (rows, before, after, removed), inputs, expected, ROUNDING[kind], is_long
    )


def _merge_edges(
    rows: int, before: int, after: int, removed: int, kind: str, width: int, is_long: bool
) -> Case:
    hidden, weight = partial(normal, (rows, width), kind), partial(weights, rows)
    start, length = _span(rows, before, after)
    score = partial(normal, (length - 1,), "fp32")

    def expected() -> Array:
        return merge_edges(_exact(hidden()), _exact(score()), _exact(weight()), start, length, removed)

    inputs = {
        "hidden": Tensor(kind, (rows, width), hidden),
        "score": Tensor("fp32", (length - 1,), score),
        "weight": Tensor("fp32", (rows,), weight),
    }
    return _reduction("MergeEdges", (rows, before, after, removed), inputs, expected, ROUNDING[kind], is_long)


def _evict(rows: int, before: int, after: int, removed: int, kind: str, width: int, is_long: bool) -> Case:
    hidden = partial(normal, (rows, width), kind)
    start, length = _span(rows, before, after)
    score = partial(normal, (length,), "fp32")

    def expected() -> Array:
        return evict_tokens(hidden(), score(), start, length, removed)

    inputs = {"hidden": Tensor(kind, (rows, width), hidden), "score": Tensor("fp32", (length,), score)}
    return _reduction("EvictTokens", (rows, before, after, removed), inputs, expected, 0.0, is_long)


def _reduction(
    plugin: str,
    lengths: tuple[int, int, int, int],
    inputs: Mapping[str, Tensor],
    expected: Callable[[], Array],
    tolerance: float,
    is_long: bool,
) -> Case:
    rows, before, after, removed = lengths
    start, length = _span(rows, before, after)
    hidden = inputs["hidden"]
    texts = {
        "before": Tensor("int64", (before,), partial(np.zeros, before, np.int64)),
        "after": Tensor("int64", (after,), partial(np.zeros, after, np.int64)),
    }
    return Case(
        f"{plugin} {hidden.type}, {rows} rows of {hidden.shape[1]}, {removed} of {length} removed",
        plugin,
        {**inputs, **texts},
        Tensor(hidden.type, (rows - removed, hidden.shape[1])),
        expected,
        tolerance,
        attributes={
            "numerator": removed,
            "denominator": max(length, 1),
            "start_offset": SPAN_OFFSETS[0],
            "end_offset": SPAN_OFFSETS[1],
        },
        span=(start, length, removed),
        is_long=is_long,
    )


def _span(rows: int, before: int, after: int) -> tuple[int, int]:
    """First row and length of the audio that may go."""
    start = before + SPAN_OFFSETS[0]
    return start, rows - after - SPAN_OFFSETS[1] - start


@lru_cache(4)
def normal(shape: tuple[int, ...], kind: str) -> Array:
    """Standard normal numbers, rounded to a type; in bf16 those that fp16 holds, too."""
    found: Array = np.random.default_rng(shape).standard_normal(shape, np.float32)
    if kind == "bf16":
        found[np.abs(found) < 2.0**-14] = 0
    return found.astype(DTYPES[kind])


def weights(rows: int) -> Array:
    """Masses as a softmax gives them: (rows,)."""
    return np.abs(normal((rows,), "fp32")) + np.float32(0.1)


def spread_keys(shape: tuple[int, int, int], span: tuple[int, int, int], kind: str) -> Array:
    """Keys (kv_heads, rows, dim); in a span (start, length, removed) `removed` neighbours are alike.

    Cosines of thousands of random keys lie closer than float32 tells apart; here they are 0.98 or -0.86: each
    row is turned by 0.2 or 2.6 radians from the one before it.
    """
    (kv_heads, rows, dim), (start, length, removed) = shape, span
    random = np.random.default_rng(shape)
    turns = np.full(rows, 2.6)
    turns[start + 1 + random.permutation(length - 1)[:removed]] = 0.2
    angles = np.cumsum(turns)
    plane = np.linalg.qr(random.standard_normal((kv_heads * dim, 2)))[0]
    found = np.stack([np.cos(angles), np.sin(angles)], 1) @ plane.T * np.sqrt(kv_heads * dim)
    keys: Array = found.reshape(rows, kv_heads, dim).transpose(1, 0, 2).astype(DTYPES[kind])
    return keys


@cache
def column_sums(rows: int, heads: int, kv_heads: int, dim: int, kind: str) -> Array:
    """The reference in float64, head by head: all heads at once would take 9 GB at 6000 rows."""
    query, key = normal((rows, heads * dim), kind), normal((kv_heads, rows, dim), kind)

    def of_head(head: int) -> Array:
        kv = head // (heads // kv_heads)
        one, keys = _exact(query[:, head * dim : (head + 1) * dim]), _exact(key[kv : kv + 1])
        return causal_attention(one, keys, keys)[1]

    at_once = min(heads, os.cpu_count() or 1, MOST_AT_ONCE)
    with ThreadPoolExecutor(at_once) as pool:
        found: Array = np.sum(list(pool.map(of_head, range(heads))), 0)
    return found


def _exact(array: Array) -> Array:
    return array.astype(np.float64)
