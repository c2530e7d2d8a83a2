"""The decoder graphs: a prefill for one reduction profile, and the one decode step that serves them all.

Positions are left aligned in every layer: row i of a layer has position i, and a decode step continues
from that layer's own cache length. So a layer's cache needs no record of what was merged before it. A cache
that rows are evicted from holds its keys as many positions earlier, and so does a layer whose rows keep their
positions while some are gone: distances are all that attention sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import onnx

from ...plugins.body import FLOAT
from ...plugins.evict_cache.op import EVICT_CACHE
from ...profiles import signature as sig
from ...profiles.flops import ResolvedProfile
from ...profiles.kv_layout import ROWS_AXIS
from ...runtime.audio.front_end import FrontEnd
from ..checkpoint.checkpoint import Tensor
from ..checkpoint.weights import WeightStore
from ..model.spec import DecoderLayer, DecoderSpec
from .graph import Graph
from .lowering.lowering import Cut, Lowering, Span
from .reduction import Site, needs_mass, reduce_rows, removed_rows

HIDDEN = -1e30  # added to the score of a pool row that a beam does not see
Angles = tuple[str, str]  # cosines and sines, each (1, rows, head_dim / 2)


def build_prefill(
    spec: DecoderSpec, front_end: FrontEnd, store: WeightStore, lowering: Lowering, resolved: ResolvedProfile
) -> onnx.ModelProto:
    """The whole prompt under one reduction profile."""
    g = Graph(f"prefill.{resolved.name}", store, lowering.precision)
    signature = sig.prefill_signature(spec.dims)
    for tensor in signature.inputs:
        g.input(tensor)
    _Prefill(g, spec, lowering, resolved).run(front_end)
    for tensor in signature.outputs:
        g.output(tensor)
    return g.model(lowering.decoder_functions(spec.dims, resolved.cache_only), lowering.domains)


def build_decode(spec: DecoderSpec, store: WeightStore, lowering: Lowering) -> onnx.ModelProto:
    """One step of all beams over any prefix: KV lengths are dynamic in every layer."""
    g = Graph("decode", store, lowering.precision)
    signature = sig.decode_signature(spec.dims)
    for tensor in signature.inputs:
        g.input(tensor)
    _Decode(g, spec, lowering).run()
    for tensor in signature.outputs:
        g.output(tensor)
    return g.model(lowering.decoder_functions(spec.dims), lowering.domains)


class _Layers:
    """What prefill and decode share."""

    def __init__(self, g: Graph, spec: DecoderSpec, lowering: Lowering) -> None:
        self.g, self.spec, self.dims, self.lowering = g, spec, spec.dims, lowering

    def angles(self, positions: str, name: str) -> Angles:
        """Rotary cosines and sines at float positions, which reshape to (1, rows, 1)."""
        g, head_dim = self.g, self.dims.head_dim
        exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
        frequencies = 1.0 / np.float32(self.spec.rope_theta) ** exponents
        angle = g.op("Mul", g.reshape(positions, 1, -1, 1), g.const(frequencies, np.float32), name=name)
        cos, sin = (g.op(function, angle, name=name) for function in ("Cos", "Sin"))
        return g.to_activation(cos), g.to_activation(sin)

    def rotate(self, x: str, heads: int, angles: Angles, name: str) -> str:
        """Rotary embedding of rows (rows, heads * head_dim)."""
        g = self.g
        batched = g.op("Unsqueeze", x, g.ints(0))
        rotated = g.op("RotaryEmbedding", batched, *angles, name=name, num_heads=heads)
        return g.reshape(rotated, -1, heads * self.dims.head_dim)

    def query(self, normed: str, layer: DecoderLayer, name: str) -> str:
        """Query rows before their rotation, (rows, heads * head_dim), in the scale of the attention ops."""
        query = self.g.linear(normed, layer.query, f"{name}/q_proj")
        if self.spec.query_scale == 1:
            return query
        return self.g.op("Mul", query, self.g.number(self.spec.query_scale), name=f"{name}/q_scale")

    def key(self, normed: str, layer: DecoderLayer, name: str) -> str:
        """Key rows before their rotation: (rows, kv_heads * head_dim)."""
        return self.g.linear(normed, layer.key, f"{name}/k_proj")

    def cache(self, x: str, name: str, output: str | None = None) -> str:
        """Rows (rows, kv_heads * head_dim) in KV layout."""
        g = self.g
        split = g.reshape(x, -1, self.dims.num_kv_heads, self.dims.head_dim)
        return g.op("Transpose", split, name=name, perm=[1, 0, 2], outputs=[output] if output else 1)

    def norm(self, x: str, branch: str | None, weight: Tensor, name: str) -> tuple[str, str]:
        """x + branch and its normalisation; without a branch, x itself."""
        eps = self.spec.norm_eps
        if branch is None:
            return x, self.g.rms_norm(x, weight, eps, name)
        total, normed = self.lowering.add_norm(self.g, name, x, branch, weight, eps)
        shape = (None, self.dims.hidden_size)
        return self.g.shaped(total, shape), self.g.shaped(normed, shape)

    def mlp(self, x: str, layer: DecoderLayer, name: str) -> str:
        """SwiGLU: down(silu(gate(x)) * up(x))."""
        g = self.g
        gate = g.linear(x, layer.gate, f"{name}/gate_proj")
        up = g.linear(x, layer.up, f"{name}/up_proj")
        gate = g.op("Mul", gate, g.op("Sigmoid", gate, name=name), name=name)
        return g.linear(g.op("Mul", gate, up, name=f"{name}/gated"), layer.down, f"{name}/down_proj")

    def scores(self, x: str, branch: str) -> None:
        """Final norm and head; write the best logits, their ids and the log of the normaliser."""
        g = self.g
        _, normed = self.norm(x, branch, self.spec.final_norm, "/norm")
        logits = g.to_float(g.linear(normed, self.spec.head, "/lm_head"))
        g.ops("TopK", logits, sig.NUM_CANDIDATES, axis=-1, outputs=[sig.TOP_LOGITS, sig.TOP_IDS])
        self._log_sum_exp(logits)

    def _log_sum_exp(self, logits: str) -> None:
        """The log of the normaliser, around the best logit, which is at hand."""
        g = self.g
        best = g.slice(sig.TOP_LOGITS, g.ints(0), g.ints(1), 1)
        shares = g.op("Exp", g.op("Sub", logits, best, name="/normaliser"), name="/normaliser")
        total = g.op("ReduceSum", shares, g.ints(-1), keepdims=0, name="/normaliser")
        best = g.op("Squeeze", best, g.ints(1))
        g.op("Add", g.op("Log", total), best, name="/normaliser", outputs=[sig.LOG_SUM_EXP])


@dataclass(frozen=True)
class _Eviction:
    """What the caches of all layers that evict have in common: each keeps the same share of the same span."""

    cut: Cut
    angles: Angles  # of the whole prompt, moved so that the row after it stands at the length of the cache


class _Prefill(_Layers):
    """The prompt, layer by layer, with fewer audio rows after each reduction, or with shorter caches."""

    def __init__(self, g: Graph, spec: DecoderSpec, lowering: Lowering, resolved: ResolvedProfile) -> None:
        super().__init__(g, spec, lowering)
        self.resolved, self.profile, self.ratios = resolved, resolved.profile, resolved.ratios
        self.evictions: dict[int, _Eviction] = {}  # by layer

    def run(self, front_end: FrontEnd) -> None:
        """Append the whole prefill."""
        g = self.g
        x, branch = self._prompt(), None
        span = self._span(front_end)
        length, places = span.length, self._places(x)
        all_angles = self.angles(places, "/rope")  # those of reduced layers are the first ones
        if self.resolved.cache_only and self.resolved.merging_layers:
            self.evictions = dict.fromkeys(self.resolved.merging_layers, self._eviction(span, places))
        for i, layer in enumerate(self.spec.layers[:-1]):
            x, normed = self.norm(x, branch, layer.attn_norm, f"/layers.{i}/attn_norm")
            query, key, value, cached = self._query_key_value(normed, layer, i, all_angles)
            attended, mass = self._attention(i, query, key, value)
            if i in self.evictions:
                self._evict_cache(i, cached, value, mass)
            out = g.linear(attended, layer.output, f"/layers.{i}/attn/o_proj")
            name = f"/layers.{i}/mlp_norm"
            if self.ratios[i] and not self.resolved.cache_only:
                site = Site(f"/layers.{i}/reduce", i, self.dims, query, key, mass, span, length)
                x = g.op("Add", x, out, name=f"/layers.{i}/attn")
                if self.resolved.keeps_positions:
                    x, length, places = self._reduce(site, self.ratios[i], x, places)
                    gone = g.op("Sub", span.length, length)
                    all_angles = self.angles(self._earlier(places, gone), f"{site.name}/rope")
                else:
                    x, length, _ = self._reduce(site, self.ratios[i], x)
                x, normed = self.norm(x, None, layer.mlp_norm, name)
            else:
                x, normed = self.norm(x, out, layer.mlp_norm, name)
            branch = self._wide_mlp(normed, layer, f"/layers.{i}/mlp")
        self._last_layer(x, branch, all_angles)

    def _prompt(self) -> str:
        """Embedded text, audio rows, embedded text: (rows, hidden)."""
        g, table = self.g, self.g.weight(self.spec.embedding)
        before, after = (
            g.op("Gather", table, ids, axis=0, name=f"/embed_tokens/{ids}")
            for ids in (sig.PREFIX_IDS, sig.SUFFIX_IDS)
        )
        rows = g.op("Concat", before, sig.AUDIO_EMBEDS, after, axis=0, name="/prompt")
        return g.shaped(rows, ("rows", self.dims.hidden_size))

    def _span(self, front_end: FrontEnd) -> Span:
        """The reduced span: the audio frames, with the row before them if asked."""
        g, extra = self.g, int(self.profile.include_audio_bos)
        before, after = front_end.bos_rows - extra, front_end.eos_rows
        start = g.op("Add", g.dim(sig.PREFIX_IDS, 0), g.ints(before))
        length = g.op("Sub", g.dim(sig.AUDIO_EMBEDS, 0), g.ints(before + after))
        return Span(start, length, before, after)

    def _places(self, x: str) -> str:
        """The positions of all rows of the prompt, as numbers: (rows, 1)."""
        g = self.g
        last = g.op("Squeeze", g.dim(x, 0), g.ints(0))
        index = g.op("Cast", g.op("Range", g.const(0), last, g.const(1)), to=FLOAT)
        return g.reshape(index, -1, 1)

    def _earlier(self, places: str, by: str) -> str:
        """Positions so far before `places`; `by` is int64 of shape (1,)."""
        return self.g.op("Sub", places, self.g.op("Cast", by, to=FLOAT))

    def _eviction(self, span: Span, places: str) -> _Eviction:
        ratio = self.resolved.ratio
        removed = removed_rows(self.g, span.length, ratio, "/reduce")
        angles = self.angles(self._earlier(places, removed), "/rope")
        return _Eviction(Cut(span, span.length, removed, ratio), angles)

    def _query_key_value(
        self, normed: str, layer: DecoderLayer, i: int, all_angles: Angles
    ) -> tuple[str, str, str, str]:
        """Rotated query rows, and what `_key_value` gives."""
        angles = self._angles_of(normed, all_angles)
        return self._query(normed, layer, i, angles), *self._key_value(normed, layer, i, angles)

    def _query(self, normed: str, layer: DecoderLayer, i: int, angles: Angles) -> str:
        name = f"/layers.{i}/attn"
        query = self.query(normed, layer, name)
        return self.rotate(query, self.dims.num_heads, angles, f"{name}/q")

    def _key_value(self, normed: str, layer: DecoderLayer, i: int, angles: Angles) -> tuple[str, str, str]:
        """Rotated key and value in KV layout, and the key as the cache takes it.

        Key and value are outputs of the graph, unless rows will be evicted: then the cache takes its keys at
        the positions that remain.
        """
        g, name = self.g, f"/layers.{i}/attn"
        key = self.key(normed, layer, name)
        rotated = self.rotate(key, self.dims.num_kv_heads, angles, f"{name}/k")
        value = g.linear(normed, layer.value, f"{name}/v_proj")
        if i not in self.evictions:
            rotated = self.cache(rotated, f"{name}/prefix_key", sig.prefix_key(i))
            return rotated, self.cache(value, f"{name}/prefix_value", sig.prefix_value(i)), rotated
        moved = self.rotate(key, self.dims.num_kv_heads, self.evictions[i].angles, f"{name}/moved_k")
        names = {"key": rotated, "value": value, "moved_key": moved}
        rotated, value, moved = (self.cache(x, f"{name}/{part}") for part, x in names.items())
        return rotated, value, moved

    def _evict_cache(self, i: int, key: str, value: str, mass: str | None) -> None:
        """Write what a cache keeps: in each head the rows of the span that got the most attention."""
        assert mass is not None
        g, cut, outputs = self.g, self.evictions[i].cut, [sig.prefix_key(i), sig.prefix_value(i)]
        score = g.slice(mass, cut.span.start, g.op("Add", cut.span.start, cut.length), 1)
        self.lowering.reduce(g, f"/layers.{i}/reduce", EVICT_CACHE, [key, value, score], cut, outputs)

    def _angles_of(self, rows: str, all_angles: Angles) -> Angles:
        g, count = self.g, self.g.dim(rows, 0)
        cos, sin = (g.slice(table, g.ints(0), count, 1) for table in all_angles)
        return cos, sin

    def _attention(self, i: int, query: str, key: str, value: str) -> tuple[str, str | None]:
        name, width = f"/layers.{i}/attn", self.dims.query_width
        if self.ratios[i] and needs_mass(self.profile):
            by_head = i in self.evictions
            shape = (self.dims.num_kv_heads, None) if by_head else (None,)
            out, mass = self.lowering.causal_attention_mass(
                self.g, name, self.dims, query, key, value, by_head
            )
            return self.g.shaped(out, (None, width)), self.g.shaped(mass, shape, FLOAT)
        out = self.lowering.causal_attention(self.g, name, self.dims, query, key, value)
        return self.g.shaped(out, (None, width)), None

    def _reduce(self, site: Site, ratio: Fraction, rows: str, places: str = "") -> tuple[str, str, str]:
        rows, length, places = reduce_rows(self.g, self.lowering, self.profile, ratio, site, rows, places)
        rows = self.g.shaped(rows, (None, self.dims.hidden_size))
        return rows, length, self.g.shaped(places, (None, 1), FLOAT) if places else ""

    def _wide_mlp(self, normed: str, layer: DecoderLayer, name: str) -> str:
        linears = (layer.gate, layer.up, layer.down)
        assert not any(linear.bias for linear in linears), "GatedMLP takes no bias"
        weights = (self.g.weight(linear.weight) for linear in linears)
        out = self.lowering.gated_mlp(self.g, name, normed, *weights)
        return self.g.shaped(out, (None, self.dims.hidden_size))

    def _last_layer(self, x: str, branch: str | None, all_angles: Angles) -> None:
        """Only the last row goes on: it alone predicts, and no reduction touches text rows."""
        g, i, layer = self.g, self.dims.num_layers - 1, self.spec.layers[-1]
        x, normed = self.norm(x, branch, layer.attn_norm, f"/layers.{i}/attn_norm")
        angles = self._angles_of(normed, all_angles)
        key, value, cached = self._key_value(normed, layer, i, angles)
        if i in self.evictions:  # what all rows attend to decides
            query = self._query(normed, layer, i, angles)
            _, mass = self._attention(i, query, key, value)
            self._evict_cache(i, cached, value, mass)
        x, normed = (g.op("Gather", rows, g.ints(-1), axis=0) for rows in (x, normed))
        last_angle = [g.op("Gather", table, g.ints(-1), axis=1) for table in angles]
        query = self.query(normed, layer, f"/layers.{i}/attn")
        query = self.rotate(query, self.dims.num_heads, (last_angle[0], last_angle[1]), f"/layers.{i}/attn/q")
        out = self.lowering.last_row_attention(g, f"/layers.{i}/attn", self.dims, query, key, value)
        out = g.linear(g.shaped(out, (1, self.dims.query_width)), layer.output, f"/layers.{i}/attn/o_proj")
        x, normed = self.norm(x, out, layer.mlp_norm, f"/layers.{i}/mlp_norm")
        self.scores(x, self.mlp(normed, layer, f"/layers.{i}/mlp"))


class _Decode(_Layers):
    """One new row a beam, appended to the pool that all beams share."""

    def run(self) -> None:
        """Append the whole step."""
        g = self.g
        table = g.weight(self.spec.embedding)
        x, branch = g.op("Gather", table, sig.TOKEN_IDS, axis=0, name="/embed_tokens"), None
        bias = self._bias()
        for i, layer in enumerate(self.spec.layers):
            x, normed = self.norm(x, branch, layer.attn_norm, f"/layers.{i}/attn_norm")
            out = g.linear(self._attention(i, layer, normed, bias), layer.output, f"/layers.{i}/attn/o_proj")
            x, normed = self.norm(x, out, layer.mlp_norm, f"/layers.{i}/mlp_norm")
            branch = self.mlp(normed, layer, f"/layers.{i}/mlp")
        assert branch is not None
        self.scores(x, branch)

    def _bias(self) -> str:
        """The pool mask as numbers to add to the scores: (beams, pool)."""
        g = self.g
        return g.op("Where", sig.POOL_MASK, g.const(0, np.float32), g.const(HIDDEN, np.float32))

    def _attention(self, i: int, layer: DecoderLayer, normed: str, bias: str) -> str:
        g, name, dims = self.g, f"/layers.{i}/attn", self.dims
        angles = self._angles_here(i)
        query = self.rotate(self.query(normed, layer, name), dims.num_heads, angles, f"{name}/q")
        key = self.rotate(self.key(normed, layer, name), dims.num_kv_heads, angles, f"{name}/k")
        value = g.linear(normed, layer.value, f"{name}/v_proj")
        pool = (
            self._grow(sig.pool_key(i), self.cache(key, f"{name}/new_key")),
            self._grow(sig.pool_value(i), self.cache(value, f"{name}/new_value")),
        )
        prefix = sig.prefix_key(i), sig.prefix_value(i)
        out = self.lowering.decode_attention(g, name, dims, query, prefix, pool, bias)
        return g.shaped(out, (sig.BEAMS, dims.query_width))

    def _angles_here(self, i: int) -> Angles:
        """Every beam stands at the same position: this layer's prefix length plus the step."""
        g = self.g
        position = g.op("Add", g.dim(sig.prefix_key(i), ROWS_AXIS), sig.STEP)
        rows = g.op("Expand", g.op("Cast", position, to=FLOAT), g.dim(sig.TOKEN_IDS, 0))
        return self.angles(rows, f"/layers.{i}/attn/rope")

    def _grow(self, pool: str, rows: str) -> str:
        return self.g.op("Concat", pool, rows, axis=ROWS_AXIS, outputs=[sig.grown(pool)])
