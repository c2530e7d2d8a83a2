"""The prefill graph of a profile: the prompt, layer by layer, with fewer audio rows after each reduction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from ...plugins.body import FLOAT, Value
from ...profiles import signature as sig
from ...profiles.flops import ResolvedProfile
from ...profiles.methods import Sums
from ...profiles.schedule import BEFORE_LAYERS
from ...runtime.audio.front_end import FrontEnd
from ..checkpoint.quantized import QuantizedRows, QuantizedWeight
from ..checkpoint.weights import WeightStore
from ..model.spec import DecoderLayer, DecoderSpec
from .caches import Cache, EvictedCache, KeyValue, WholeCache
from .graph import Graph
from .layers import DecoderLayers
from .lowering.lowering import Cut, Lowering, SpanValues
from .positions import Angles, earlier, prompt_positions
from .reduction import (
    REDUCERS,
    Attended,
    KeepRows,
    LayerState,
    RemoveRows,
    RemoveRowsKeepPositions,
    RowReduction,
    removed_rows,
)


def build_prefill(
    spec: DecoderSpec, front_end: FrontEnd, store: WeightStore, lowering: Lowering, resolved: ResolvedProfile
) -> onnx.ModelProto:
    """The whole prompt under one reduction profile."""
    g = Graph(f"prefill.{resolved.name}", store, lowering)
    maps = sig.row_maps(spec.dims, resolved) if spec.row_maps else ()
    told = maps, spec.word_heads
    signature = sig.prefill_signature(
        spec.dims, spec.request_inputs, spec.prefix_type, *told, resolved.takes_row_weights
    )
    for tensor in signature.inputs:
        g.input(tensor)
    _Prefill(g, spec, lowering, resolved).run(front_end)
    for tensor in signature.outputs:
        g.output(tensor)
    reducer = REDUCERS.get(resolved.method)
    functions = lowering.decoder_functions(spec.dims, reducer.op_type if reducer else None)
    return g.model(functions, lowering.domains)


class _Prefill(DecoderLayers):
    """The prompt, layer by layer."""

    def __init__(self, g: Graph, spec: DecoderSpec, lowering: Lowering, resolved: ResolvedProfile) -> None:
        super().__init__(g, spec, lowering)
        self.resolved, self.profile = resolved, resolved.profile

    def run(self, front_end: FrontEnd) -> None:
        """Append the whole prefill."""
        prompt = self._prompt()
        span = self._span(front_end)
        positions = prompt_positions(self.g, prompt)
        angles, factors = self.rotary.angles(positions, "/rope"), self._log_n_factors(positions)
        state = LayerState(prompt, None, span.length, positions, angles, factors)
        caches, reductions = self._caches(span, positions), self._reductions(span)
        state = self._reduction(BEFORE_LAYERS, span).reduce(state, None)
        for i in range(self.dims.num_layers - 1):
            state, attended = self._attention(i, state, caches[i])
            state = reductions[i].reduce(state, attended)
            state = self._feed_forward(i, state)
        self._last_layer(state, caches[-1])

    def _prompt(self) -> Value:
        """Embedded text, audio rows, embedded text: (rows, hidden)."""
        g = self.g
        before, after = (
            g.table_rows(self.spec.embedding, ids, f"/embed_tokens/{ids}")
            for ids in (sig.PREFIX_IDS, sig.SUFFIX_IDS)
        )
        rows = g.op("Concat", before, sig.AUDIO_EMBEDS, after, axis=0, name="/prompt")
        return self.entering(g.shaped(rows, ("rows", self.dims.hidden_size)), "/prompt/scale")

    def _span(self, front_end: FrontEnd) -> SpanValues:
        """The reduced span: the audio frames, with the row before them if asked."""
        g, extra = self.g, int(self.profile.include_audio_bos)
        before, after = front_end.bos_rows - extra, front_end.eos_rows
        start = g.op("Add", g.dim(sig.PREFIX_IDS, 0), g.ints(before))
        length = g.op("Sub", g.dim(sig.AUDIO_EMBEDS, 0), g.ints(before + after))
        return SpanValues(start, length, before, after)

    def _log_n_factors(self, places: Value) -> Value | None:
        """Those of as many rows as the prompt has, (rows, 1): row i of any layer sees i + 1 keys."""
        if self.log_n is None:
            return None
        return self.log_n.factors(self.g.op("Add", places, self.g.const(1, np.float32)), "/log_n")

    def _caches(self, span: SpanValues, positions: Value) -> list[Cache]:
        """One per layer."""
        caches: list[Cache] = [WholeCache(self, i) for i in range(self.dims.num_layers)]
        if self.resolved.is_of_caches and self.resolved.reducing_layers:
            ratio = self.resolved.ratio
            removed = removed_rows(self.g, span.length, ratio, "/reduce")
            angles = self.rotary.angles(earlier(self.g, positions, removed), "/rope")
            cut = Cut(span, span.length, removed, ratio)
            for i in self.resolved.reducing_layers:
                caches[i] = EvictedCache(self, i, self.profile, cut, angles)
        return caches

    def _reductions(self, span: SpanValues) -> list[RowReduction]:
        """One per layer."""
        return [self._reduction(i, span) for i in range(self.dims.num_layers)]

    def _reduction(self, place: int, span: SpanValues) -> RowReduction:
        if self.resolved.is_of_caches or not (ratio := self.resolved.ratio_at(place)):
            return KeepRows()
        own = self.g, self.lowering, self.profile, self.dims, place, ratio, span, self.spec.row_maps
        return (
            RemoveRowsKeepPositions(*own, self.rotary) if self.resolved.keeps_positions else RemoveRows(*own)
        )

    def _attention(self, i: int, state: LayerState, cache: Cache) -> tuple[LayerState, Attended]:
        """The first half of a layer; its output is the branch of the new state."""
        layer = self.spec.layers[i]
        rows, normed = self.norm(state.rows, state.branch, layer.attn_norm, f"/layers.{i}/attn_norm")
        angles = self.rotary.first(state.angles, normed)
        query = self._query(i, normed, angles, self._first_factors(state, normed))
        kv = self._key_value(i, normed, angles, cache)
        attended = self._attend(i, query, kv)
        cache.keep(kv, attended)
        self._tell_last_look(i, query, kv)
        branch = self.output(attended.output, layer, f"/layers.{i}/attn")
        return replace(state, rows=rows, branch=branch), attended

    def _first_factors(self, state: LayerState, normed: Value) -> Value | None:
        """The factors of log-n of these rows, (rows, 1)."""
        g = self.g
        return state.log_n and g.slice(state.log_n, g.ints(0), g.dim(normed, 0), 0)

    def _query(self, i: int, normed: Value, angles: Angles, factors: Value | None) -> Value:
        """Rotated: (rows, heads * head_dim)."""
        name = f"/layers.{i}/attn"
        query = self.query(normed, self.spec.layers[i], name, factors)
        return self.rotary.rotate(query, self.dims.num_heads, angles, f"{name}/q")

    def _key_value(self, i: int, normed: Value, angles: Angles, cache: Cache) -> KeyValue:
        layer, name = self.spec.layers[i], f"/layers.{i}/attn"
        key = self.key(normed, layer, name)
        rotated = self.rotary.rotate(key, self.dims.num_kv_heads, angles, f"{name}/k")
        return cache.lay_out(key, rotated, self.value(normed, layer, name))

    def _attend(self, i: int, query: Value, kv: KeyValue) -> Attended:
        """The attention of all rows, with the sums that the reduction of this layer asks for."""
        g, name, dims, width = self.g, f"/layers.{i}/attn", self.dims, self.dims.query_width
        sums = self.profile.traits.sums if self.resolved.ratios[i] else Sums.NONE
        if not sums.over_all_queries:
            out = self.lowering.causal_attention(g, name, dims, query, kv.key, kv.value)
            return Attended(g.shaped(out, (None, width)), query, kv.key)
        by_head = sums is Sums.BY_HEAD
        out, mass = self.lowering.causal_attention_mass(g, name, dims, query, kv.key, kv.value, by_head)
        output = g.shaped(out, (None, width))
        received = g.shaped(mass, (dims.num_kv_heads, None) if by_head else (None,), FLOAT)
        return Attended(output, query, kv.key, received)

    def _tell_last_look(self, i: int, query: Value, kv: KeyValue) -> None:
        """Of the last row, which writes the first token."""
        if self.spec.word_heads is not None and self.spec.word_heads.layer == i:
            g = self.g
            self.tell_looks(i, self._last_row(query), g.op("Unsqueeze", kv.key, g.ints(0)), 1)

    def _feed_forward(self, i: int, state: LayerState) -> LayerState:
        """The second half of a layer; its output is the branch of the new state."""
        layer = self.spec.layers[i]
        rows, normed = self.norm(state.rows, state.branch, layer.mlp_norm, f"/layers.{i}/mlp_norm")
        return replace(state, rows=rows, branch=self._wide_mlp(normed, layer, f"/layers.{i}/mlp"))

    def _wide_mlp(self, normed: Value, layer: DecoderLayer, name: str) -> Value:
        linears = (layer.gate, layer.up, layer.down)
        weights = [linear.weight for linear in linears if not isinstance(linear.weight, QuantizedWeight)]
        if len(weights) < len(linears):
            return self.mlp(normed, layer, name)
        assert not any(linear.bias for linear in linears), "GatedMLP takes no bias"
        out = self.lowering.gated_mlp(self.g, name, normed, *map(self.g.weight, weights))
        return self.branch(self.g.shaped(out, (None, self.dims.hidden_size)), name)

    def _last_layer(self, state: LayerState, cache: Cache) -> None:
        """Only the last row goes on: it alone predicts, and no reduction touches text rows."""
        g, i, layer = self.g, self.dims.num_layers - 1, self.spec.layers[-1]
        name = f"/layers.{i}/attn"
        x, normed = self.norm(state.rows, state.branch, layer.attn_norm, f"/layers.{i}/attn_norm")
        angles = self.rotary.first(state.angles, normed)
        factors = self._first_factors(state, normed)
        kv = self._key_value(i, normed, angles, cache)
        if cache.needs_attention:  # what all rows attend to decides
            queries = self._query(i, normed, angles, factors)
            cache.keep(kv, self._attend(i, queries, kv))
        x, normed = (self._last_row(rows) for rows in (x, normed))
        if cache.needs_attention and isinstance(layer.query.weight, QuantizedRows):  # one node may read it
            query = self._last_row(queries)
        else:
            last = factors and self._last_row(factors)
            query = self._query(i, normed, self.rotary.last(angles), last)
        self._tell_last_look(i, query, kv)
        out = self.lowering.last_row_attention(g, name, self.dims, query, kv.key, kv.value)
        out = self.output(g.shaped(out, (1, self.dims.query_width)), layer, name)
        x, normed = self.norm(x, out, layer.mlp_norm, f"/layers.{i}/mlp_norm")
        self.scores(x, self.mlp(normed, layer, f"/layers.{i}/mlp"))

    def _last_row(self, rows: Value) -> Value:
        """Of (rows, width): (1, width)."""
        return self.g.op("Gather", rows, self.g.ints(-1), axis=0)
