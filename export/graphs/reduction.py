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
from ...plugins.select_groups.op import SELECT_GROUPS
from ...profiles.flops import DecoderDims
from ...profiles.kv_layout import ROWS_AXIS
from ...profiles.methods import Sums
from ...profiles.profile import Profile, layer_seed
from ...profiles.schedule import BEFORE_LAYERS
from ...profiles.signature import NUM_ROW_WEIGHTS, PREFIX_IDS, ROW_WEIGHTS, SUFFIX_IDS, row_sources
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


HEAD_COLUMNS = 128
"""The widest head that every version of the merge ops takes."""


def place_name(place: int) -> str:
    """What names of nodes of a layer, or of the input, begin with."""
    return "/input" if place == BEFORE_LAYERS else f"/layers.{place}"


@dataclass(frozen=True)
class SiteValues:
    """One reduction of a graph; what its method asks for is appended when it is asked for."""

    g: Graph
    lowering: Lowering
    profile: Profile
    dims: DecoderDims
    place: int  # its layer, or `BEFORE_LAYERS`
    rows: Value | None  # that are reduced, (rows, hidden_size); None of caches
    attended: Attended | None  # None at the input
    cut: Cut

    @property
    def name(self) -> str:
        """What its node names begin with."""
        return f"{place_name(self.place)}/reduce"

    @property
    def keys(self) -> Value:
        """What neighbours are compared by: rotated keys in KV layout, or at the input the rows."""
        return self.rows_as_keys() if self.attended is None else self.attended.key

    def rows_as_keys(self) -> Value:
        """The rows in KV layout, cut into heads, which a similarity takes together again."""
        assert self.rows is not None, "caches are reduced by keys"
        g, hidden = self.g, self.dims.hidden_size
        head = max(width for width in range(1, HEAD_COLUMNS + 1) if hidden % width == 0)
        heads = g.reshape(self.rows, -1, hidden // head, head)
        return g.op("Transpose", heads, name=f"{self.name}/heads", perm=[1, 0, 2])

    def own_rows(self) -> Value:
        """What is reduced, for methods that compare rows by themselves."""
        assert self.rows is not None, "caches are reduced by keys"
        return self.rows

    def of_span(self, x: Value, axis: int = 0) -> Value:
        """The part of an axis of rows that may be reduced."""
        start = self.cut.span.start
        return self.g.slice(x, start, self.g.op("Add", start, self.cut.length), axis)

    def sums(self) -> Value:
        """The attention that rows receive, as the profile's method sums it: (rows,) or (kv_heads, rows)."""
        assert self.attended is not None, "methods that ask for attention reduce in layers alone"
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
        g = self.g
        return self._ones(g.dim(self.rows, 0) if self.rows is not None else g.dim(self.keys, ROWS_AXIS))

    def _ones(self, count: Value) -> Value:
        return self.g.op("Expand", self.g.const([1.0], np.float32), count)

    def row_weights(self) -> list[Value]:
        """What the encoder says of each row, a column each; 1 of those of text: (rows,).

        The attention that a row gets, and what it pays to itself.
        """
        assert self.attended is None, "in layers there are fewer rows than the encoder gave"
        before, after = (self._ones(self.g.dim(ids, 0)) for ids in (PREFIX_IDS, SUFFIX_IDS))
        columns = (self.g.op("Gather", ROW_WEIGHTS, self.g.const(i), axis=1) for i in range(NUM_ROW_WEIGHTS))
        return [self.g.op("Concat", before, column, after, axis=0) for column in columns]

    def uniform_edges(self) -> Value:
        """1 for each pair of neighbours that runs of equal length join, 0 for others: (length - 1,).

        Row i belongs to run i * kept // length.
        """
        g, length = self.g, self.cut.length
        row = g.op("Range", g.const(0), self._rows_of_span(), g.const(1))
        kept = g.op("Sub", length, self.cut.removed)
        run = g.op("Div", g.op("Mul", row, kept), self._divisor(), name=f"{self.name}/run")
        edges = g.op("Sub", length, g.ints(1))
        left, right = g.slice(run, g.ints(0), edges, 0), g.slice(run, g.ints(1), length, 0)
        return g.op("Cast", g.op("Equal", left, right), to=FLOAT, name=f"{self.name}/score")

    def segment_scores(self) -> Value:
        """Of each row of the span how late it is evicted, the best row of each segment last: (length,).

        Row i belongs to segment ((i + 1) * segments - 1) // length, which starts at floor(s * length /
        segments). The score of a row is its rank within its segment, by attention, and then the segment.
        """
        g, name, segments = self.g, f"{self.name}/segments", self.profile.segments
        place = g.op("Range", g.const(1), g.op("Add", self._rows_of_span(), g.const(1)), g.const(1))
        after = g.op("Sub", g.op("Mul", place, g.ints(segments)), g.ints(1))
        segment = g.op("Div", after, self._divisor(), name=name)
        rank = self.lowering.segment_ranks(g, name, self.sums_of_span(), segment, segments)
        late = g.op("Add", g.op("Mul", rank, g.ints(segments)), segment)
        return g.op("Cast", g.op("Neg", late), to=FLOAT, name=f"{self.name}/score")

    def _rows_of_span(self) -> Value:
        """How many there are, as a scalar."""
        return self.g.op("Squeeze", self.cut.length, self.g.ints(0))

    def _divisor(self) -> Value:
        """The same as a divisor, (1,): without rows nothing is divided, but some backends look at it."""
        return self.g.op("Max", self.cut.length, self.g.ints(1))

    def random_rows(self) -> Value:
        """A random score for each row of the span: (length,)."""
        return self._random(self.cut.length)

    def random_edges(self) -> Value:
        """A random score for each pair of neighbours in the span: (length - 1,)."""
        return self._random(self.g.op("Sub", self.cut.length, self.g.ints(1)))

    def _random(self, count: Value) -> Value:
        """Scores that differ from layer to layer, the same on every run."""
        seed = layer_seed(self.profile, self.place)
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

    def write_sources(self, rows: Value, name: str) -> None:
        """Write `row_sources`: the same op on the places of the rows, all of which weigh the same.

        So nothing is chosen again, and the mean of neighbours tells which ones they are.
        """
        g = self.site.g
        places = g.op("Cast", g.op("Range", g.const(0), g.op("Squeeze", rows), g.const(1)), to=FLOAT)
        inputs = [*self.inputs[:-1], self.site.ones()] if self.op_type in WEIGHTED else self.inputs
        column = replace(self, inputs=inputs).apply(f"{self.site.name}/sources", g.reshape(places, -1, 1))
        g.op("Squeeze", column, g.ints(1), name=name, outputs=[name])


@dataclass(frozen=True)
class GroupReducer(Reducer):
    """How groups of rows are merged and selected: which ones is decided once, before two ops do it."""

    def choose(self, site: SiteValues) -> GroupChoice:
        """Append what decides; `inputs` are the rows, and their weights and relevances."""
        names = [f"{site.name}/groups.{part}" for part in ("score", "links", "kept", "first")]
        inputs, name = self.inputs(site), f"{site.name}/groups"
        site.lowering.reduce(site.g, name, self.op_type, inputs, site.cut, names)
        score, links, kept, first = map(Value, names)
        return GroupChoice(site, self.op_type, inputs, score, links, kept, first, weight=inputs[1])


@dataclass(frozen=True)
class GroupChoice(Choice):
    """Groups that become one row each, and those of them that stay."""

    score: Value  # of each edge
    links: Value  # edges that link rows, of the largest score: int64 of shape (1,)
    kept: Value  # 1 for each group that stays, or 0 for all where none goes
    first: Value  # the row of the span that each begins with
    weight: Value  # of each row in the mean of its group: (rows,)

    def apply(self, name: str, *tensors: Value, outputs: Sequence[str] | int = 1) -> Value:
        """Append both ops on one tensor that has these rows."""
        site, (tensor,) = self.site, tensors
        merging = replace(site.cut, removed=self.links)
        inputs = [tensor, self.score, self.weight]
        groups = site.lowering.reduce(site.g, f"{name}/merged", MERGE_EDGES, inputs, merging)
        return self._select(name, Value(groups), outputs)

    def _select(self, name: str, groups: Value, outputs: Sequence[str] | int = 1) -> Value:
        site, g, cut = self.site, self.site.g, self.site.cut
        length, removed = (g.op("Sub", count, self.links) for count in (cut.length, cut.removed))
        left = replace(cut, length=length, removed=removed)
        return Value(site.lowering.reduce(g, name, EVICT_TOKENS, [groups, self.kept], left, outputs))

    def write_sources(self, rows: Value, name: str) -> None:
        """Write `row_sources`, the first and the last row of each group that stays: (2, rows left)."""
        g, stem, span = self.site.g, f"{self.site.name}/sources", self.site.cut.span.start
        places = g.op("Range", g.const(0), g.op("Squeeze", rows), g.const(1))
        end = g.op("Add", span, self.site.cut.length)
        before, after = g.slice(places, g.ints(0), span, 0), g.slice(places, end, rows, 0)
        begins = g.op("Concat", before, g.op("Add", self.first, span), after, axis=0)
        evenly = replace(self, weight=self.site.ones())
        means = evenly.apply(f"{stem}/means", self._column(places))
        first = self._select(f"{stem}/first", self._column(begins))
        last = g.op("Sub", g.op("Add", means, means), first)
        both = g.op("Concat", first, last, axis=1)
        g.op("Transpose", both, name=name, outputs=[name], perm=[1, 0])

    def _column(self, places: Value) -> Value:
        g = self.site.g
        return g.reshape(g.op("Cast", places, to=FLOAT), -1, 1)


WEIGHTED = (MERGE_TOKENS, MERGE_EDGES)
"""Ops whose last input of a choice are weights."""
REDUCERS: dict[str, Reducer] = {
    "weighted_merge": Reducer(MERGE_TOKENS, lambda site: [site.keys, site.sums()]),
    "average_merge": Reducer(MERGE_TOKENS, lambda site: [site.keys, site.ones()]),
    "random_merge": Reducer(MERGE_EDGES, lambda site: [site.random_edges(), site.sums()]),
    "uniform_merge": Reducer(MERGE_EDGES, lambda site: [site.uniform_edges(), site.ones()]),
    "affinity_pooling": Reducer(MERGE_TOKENS, lambda site: [site.rows_as_keys(), site.ones()]),
    "group_select": GroupReducer(SELECT_GROUPS, lambda site: [site.own_rows(), site.ones(), site.ones()]),
    "sa_map": GroupReducer(SELECT_GROUPS, lambda site: [site.own_rows(), *site.row_weights()]),
    "a_tome": Reducer(MERGE_PAIRS, lambda site: [site.keys]),
    "fastv": Reducer(EVICT_TOKENS, lambda site: [site.sums_of_span()]),
    "segment_evict": Reducer(EVICT_TOKENS, lambda site: [site.segment_scores()]),
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
    """What becomes of the rows between the attention of a layer and its MLP, or before the first layer."""

    def reduce(self, state: LayerState, attended: Attended | None) -> LayerState:
        """Append it; `state.branch` is the output of the attention, if there has been one."""


class KeepRows:
    """All rows go on."""

    def reduce(self, state: LayerState, attended: Attended | None) -> LayerState:
        """Nothing is appended."""
        return state


@dataclass(frozen=True)
class RemoveRows:
    """Fewer rows go on, and close up: row i stands at position i."""

    g: Graph
    lowering: Lowering
    profile: Profile
    dims: DecoderDims
    place: int
    ratio: Fraction
    span: SpanValues
    writes_sources: bool

    def reduce(self, state: LayerState, attended: Attended | None) -> LayerState:
        """Add the branch, if there is one, then reduce."""
        g, name, rows = self.g, place_name(self.place), state.rows
        if state.branch is not None:
            rows = g.op("Add", rows, state.branch, name=f"{name}/attn")
        removed = removed_rows(g, state.length, self.ratio, f"{name}/reduce")
        cut = Cut(self.span, state.length, removed, self.ratio)
        site = SiteValues(g, self.lowering, self.profile, self.dims, self.place, rows, attended, cut)
        choice = REDUCERS[self.profile.method].choose(site)
        reduced = g.shaped(choice.apply(site.name, rows), (None, self.dims.hidden_size))
        if self.writes_sources:
            choice.write_sources(g.dim(rows, 0), row_sources(self.place))
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
