"""The decode graph: one new row per beam, over any prefix, appended to the pool that all beams share."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import onnx

from ...plugins.body import FLOAT, Value
from ...profiles import signature as sig
from ...profiles.kv_layout import KV_LAYOUT, ROWS_AXIS, kv_shape, with_rows
from ..checkpoint.weights import WeightStore
from ..model.spec import DecoderLayer, DecoderSpec
from .graph import Graph
from .layers import DecoderLayers
from .lowering.lowering import Lowering
from .positions import Angles

HIDDEN = -1e30  # added to the score of a pool row that a beam does not see


def build_decode(spec: DecoderSpec, store: WeightStore, lowering: Lowering) -> onnx.ModelProto:
    """One step of all beams over any prefix: KV lengths are dynamic in every layer."""
    g = Graph("decode", store, lowering)
    signature = sig.decode_signature(
        spec.dims, spec.step_inputs, spec.prefix_type, in_place=lowering.pools_in_place
    )
    for tensor in signature.inputs:
        g.input(tensor)
    _Decode(g, spec, lowering).run()
    for tensor in signature.outputs:
        g.output(tensor)
    return g.model(lowering.decoder_functions(spec.dims), lowering.domains)


class _Decode(DecoderLayers):
    """The step, layer by layer."""

    def run(self) -> None:
        """Append the whole step."""
        g = self.g
        rows = g.table_rows(self.spec.embedding, sig.TOKEN_IDS, "/embed_tokens")
        x, branch = self.entering(rows, "/embed_tokens/scale"), None
        bias = self._bias()
        for i, layer in enumerate(self.spec.layers):
            x, normed = self.norm(x, branch, layer.attn_norm, f"/layers.{i}/attn_norm")
            out = self.output(self._attention(i, layer, normed, bias), layer, f"/layers.{i}/attn")
            x, normed = self.norm(x, out, layer.mlp_norm, f"/layers.{i}/mlp_norm")
            branch = self.mlp(normed, layer, f"/layers.{i}/mlp")
        assert branch is not None
        self.scores(x, branch)

    def _bias(self) -> Value:
        """The pool mask as numbers to add to the scores: (beams, pool)."""
        g = self.g
        return g.op("Where", sig.POOL_MASK, g.const(0, np.float32), g.const(HIDDEN, np.float32))

    def _attention(self, i: int, layer: DecoderLayer, normed: Value, bias: Value) -> Value:
        g, name, dims, rotate = self.g, f"/layers.{i}/attn", self.dims, self.rotary.rotate
        angles, log_n = self._angles_here(i), self._log_n_factors_here(i)
        query = rotate(self.query(normed, layer, name, log_n), dims.num_heads, angles, f"{name}/q")
        key = rotate(self.key(normed, layer, name), dims.num_kv_heads, angles, f"{name}/k")
        value = self.value(normed, layer, name)
        pool = (
            self._grow(sig.pool_key(i), self.cache_layout(key, f"{name}/new_key")),
            self._grow(sig.pool_value(i), self.cache_layout(value, f"{name}/new_value")),
        )
        prefix = self.read_prefix(sig.prefix_key(i)), self.read_prefix(sig.prefix_value(i))
        out = self.lowering.decode_attention(g, name, dims, query, prefix, pool, bias)
        return g.shaped(out, (sig.BEAMS, dims.query_width))

    def _angles_here(self, i: int) -> Angles:
        """Every beam stands at the same position: this layer's prefix length plus the step."""
        g = self.g
        position = g.op("Add", self._rows_of(sig.prefix_key(i)), sig.STEP)
        rows = g.op("Expand", g.op("Cast", position, to=FLOAT), g.dim(sig.TOKEN_IDS, 0))
        return self.rotary.angles(rows, f"/layers.{i}/attn/rope")

    def _log_n_factors_here(self, i: int) -> Value | None:
        """Each beam sees the rows of this layer, with those that were evicted from its cache, and itself."""
        if self.log_n is None:
            return None
        g, name = self.g, f"/layers.{i}/attn/log_n"
        before = g.op("Max", self._rows_of(sig.prefix_key(i)), sig.ROWS_BEFORE_EVICTION)
        keys = g.op("Add", g.op("Add", before, sig.STEP), g.ints(1))
        return self.log_n.factors(g.op("Cast", keys, to=FLOAT), name)

    def _rows_of(self, prefix: str) -> Value:
        """How many there are, int64 of shape (1,).

        A shape is a number of the host. Where pools stay in place, so does everything that a step computes
        with: there the rows are counted on the device, so that a step can be replayed without the host.
        """
        g, rows = self.g, self.g.dim(prefix, ROWS_AXIS)
        if not self.lowering.pools_in_place:
            return rows
        counted = g.op(
            "Range", g.const(1), g.op("Squeeze", g.op("Add", rows, g.ints(1)), g.ints(0)), g.const(1)
        )
        return g.op("Gather", counted, g.ints(-1), axis=0)

    def _grow(self, pool: str, rows: Value) -> Value:
        g, outputs = self.g, [sig.grown(pool)]
        if self.lowering.pools_in_place:
            return g.op("ScatterElements", pool, self._places, rows, axis=ROWS_AXIS, outputs=outputs)
        return g.op("Concat", pool, rows, axis=ROWS_AXIS, outputs=outputs)

    @cached_property
    def _places(self) -> Value:
        """The row of the pool that each number of the new rows goes to, in KV layout."""
        g, beams = self.g, self.g.dim(sig.TOKEN_IDS, 0)
        row = g.op("Range", g.const(0), g.op("Squeeze", beams, g.ints(0)), g.const(1))
        row = g.reshape(g.op("Add", row, sig.POOL_ROWS), *with_rows((1,) * len(KV_LAYOUT), -1))
        return g.op("Expand", row, g.shape(*kv_shape(self.dims, str(beams))), name="/pool")
