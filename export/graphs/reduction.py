"""Reductions: the op of each method and what goes into it, and what is left of the rows of a layer.

A new method is a line of `REDUCERS`; a new op also needs what the lowerings make of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol

import numpy as np

from ...plugins.body import FLOAT, Value
from ...plugins.evict_cache.op import EVICT_CACHE
from ...plugins.evict_tokens.op import EVICT_TOKENS
from ...plugins.merge_tokens.op import MERGE_EDGES, MERGE_PAIRS, MERGE_TOKENS
from ...profiles.flops import DecoderDims
from ...profiles.kv_layout import ROWS_AXIS
from ...profiles.methods import Sums
from ...profiles.profile import Profile, layer_seed
from .graph import Graph
from .lowering.lowering import Cut, Lowering, SpanValues
from .positions import Angles, Rotary, earlier


@dataclass(frozen=True)
class Attended:
    """What there is right after the attention of a layer, for a reduction to look at."""

    output: Value  # (rows, heads * head_dim)
    query: Value  # (rows, heads * head_dim), rotated
    key: Value  # in KV layout, rotated
    sums: Value | None = None  # over all query rows: (rows,) or (kv_heads, rows), if the method asks for them


@dataclass(frozen=True)
class SiteValues:
    """One reduction of a graph; what its method asks for is appended when it is asked for."""

    g: Graph
    lowering: Lowering
    profile: Profile
    dims: DecoderDims
    layer: int
    attended: Attended
    cut: Cut

    @property
    def name(self) -> str:
        """What its node names begin with."""
        return f"/layers.{self.layer}/reduce"

    @property
    def keys(self) -> Value:
        """Rotated keys in KV layout."""
        return self.attended.key

    def of_span(self, x: Value, axis: int = 0) -> Value:
        """The part of an axis of rows that may be reduced."""
        start = self.cut.span.start
        return self.g.slice(x, start, self.g.op("Add", start, self.cut.length), axis)

    def sums(self) -> Value:
        """The attention that rows receive, as the profile's method sums it: (rows,) or (kv_heads, rows)."""
        if self.profile.traits.sums is Sums.LAST_QUERY:
            query, key, name = self.attended.query, self.attended.key, f"{self.name}/score"
            return Value(self.lowering.last_query_mass(self.g, name, self.dims, query, key))
        assert self.attended.sums is not None
        return self.attended.sums

    def sums_of_span(self) -> Value:
        """The same of the rows that may be reduced: (length,) or (kv_heads, length)."""
        return self.of_span(self.sums(), axis=int(self.profile.traits.sums is Sums.BY_HEAD))

    def ones(self) -> Value:
        """The same weight for each row: (rows,)."""
        return self.g.op("Expand", self.g.const([1.0], np.float32), self.g.dim(self.keys, ROWS_AXIS))

    def random_rows(self) -> Value:
        """A random score for each row of the span: (length,)."""
        return self._random(self.cut.length)

    def random_edges(self) -> Value:
        """A random score for each pair of neighbours in the span: (length - 1,)."""
        return self._random(self.g.op("Sub", self.cut.length, self.g.ints(1)))

    def _random(self, count: Value) -> Value:
        """Scores that differ from layer to layer, the same on every run."""
        seed = layer_seed(self.profile, self.layer)
        return Value(self.lowering.random_score(self.g, f"{self.name}/score", count, seed))


@dataclass(frozen=True)
class Reducer:
    """How a method reduces: its op, and the inputs of the op beside what is reduced."""

    op_type: str
    inputs: Callable[[SiteValues], list[Value]]

    def choose(self, site: SiteValues) -> Choice:
        """Append what decides which rows go."""
        return Choice(site, self.op_type, self.inputs(site))


@dataclass(frozen=True)
class Choice:
    """The rows that one reduction removes, whatever they are removed from."""

    site: SiteValues
    op_type: str
    inputs: list[Value]

    def apply(self, name: str, *tensors: Value, outputs: Sequence[str] | int = 1) -> Value:
        """Append the op on tensors that have these rows; the first of its outputs."""
        site, inputs = self.site, [*tensors, *self.inputs]
        return Value(site.lowering.reduce(site.g, name, self.op_type, inputs, site.cut, outputs))


REDUCERS: dict[str, Reducer] = {
    "weighted_merge": Reducer(MERGE_TOKENS, lambda site: [site.keys, site.sums()]),
    "average_merge": Reducer(MERGE_TOKENS, lambda site: [site.keys, site.ones()]),
    "random_merge": Reducer(MERGE_EDGES, lambda site: [site.random_edges(), site.sums()]),
    "a_tome": Reducer(MERGE_PAIRS, lambda site: [site.keys]),
    "fastv": Reducer(EVICT_TOKENS, lambda site: [site.sums_of_span()]),
    "random_evict": Reducer(EVICT_TOKENS, lambda site: [site.random_rows()]),
    "h2o": Reducer(EVICT_CACHE, lambda site: [site.sums_of_span()]),
}
"""By the names of `METHODS`."""


def removed_rows(g: Graph, length: Value, ratio: Fraction, name: str) -> Value:
    """floor(length * ratio) in exact arithmetic, int64 of shape (1,)."""
    removed = g.op("Mul", length, g.ints(ratio.numerator))
    return g.op("Div", removed, g.ints(ratio.denominator), name=f"{name}/removed")


@dataclass(frozen=True)
class LayerState:
    """The rows on their way through the layers."""

    rows: Value  # (rows, hidden_size)
    branch: Value | None  # what the last half of a layer put out, where it is still to be added to the rows
    length: Value  # rows of the span that are left, int64 of shape (1,)
    positions: Value  # float32 (rows, 1), of the rows where positions are kept, else of the whole prompt
    angles: Angles  # whose first ones are those of the rows
    log_n: Value | None = None  # factors of the queries, (rows, 1), whose first ones are those of the rows


class RowReduction(Protocol):
    """What becomes of the rows between the attention of a layer and its MLP."""

    def after_attention(self, state: LayerState, attended: Attended) -> LayerState:
        """Append it; `state.branch` is the output of the attention."""


class KeepRows:
    """All rows go on."""

    def after_attention(self, state: LayerState, attended: Attended) -> LayerState:
        """Nothing is appended."""
        return state


@dataclass(frozen=True)
class RemoveRows:
    """Fewer rows go on, and close up: row i stands at position i."""

    g: Graph
    lowering: Lowering
    profile: Profile
    dims: DecoderDims
    layer: int
    ratio: Fraction
    span: SpanValues

    def after_attention(self, state: LayerState, attended: Attended) -> LayerState:
        """Add the branch, then reduce."""
        assert state.branch is not None
        g, name = self.g, f"/layers.{self.layer}"
        rows = g.op("Add", state.rows, state.branch, name=f"{name}/attn")
        removed = removed_rows(g, state.length, self.ratio, f"{name}/reduce")
        cut = Cut(self.span, state.length, removed, self.ratio)
        site = SiteValues(g, self.lowering, self.profile, self.dims, self.layer, attended, cut)
        choice = REDUCERS[self.profile.method].choose(site)
        reduced = g.shaped(choice.apply(site.name, rows), (None, self.dims.hidden_size))
        if self.profile.traits.is_data_dependent:
            removed = g.op("Sub", g.dim(rows, 0), g.dim(reduced, 0))
        return self._close_up(replace(state, rows=reduced, branch=None), choice, removed)

    def _close_up(self, state: LayerState, choice: Choice, removed: Value) -> LayerState:
        return replace(state, length=self.g.op("Sub", state.length, removed))


@dataclass(frozen=True)
class RemoveRowsKeepPositions(RemoveRows):
    """Fewer rows go on, and stay where they were; what is merged stands at the mean position.

    Positions are reduced as the rows are, by the same weights, as a column of numbers.
    """

    rotary: Rotary

    def _close_up(self, state: LayerState, choice: Choice, removed: Value) -> LayerState:
        g, name = self.g, choice.site.name
        positions = g.shaped(choice.apply(f"{name}/positions", state.positions), (None, 1), FLOAT)
        state = super()._close_up(state, choice, removed)
        gone = g.op("Sub", self.span.length, state.length)
        angles = self.rotary.angles(earlier(g, positions, gone), f"{name}/rope")
        return replace(state, positions=positions, angles=angles)
