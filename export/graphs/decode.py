"""The decode graph: one new row per beam, over any prefix and the pool that all beams of a request share.

For most backends a step takes several requests, and gives their new rows alone (`step_signature`). For
onnxruntime-cuda it takes one, and writes the new rows into its pool, which has room for them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np
import onnx

from ...plugins.body import DOMAIN, FLOAT, Value
from ...plugins.step_product.op import MANY_ROWS, STEP_PRODUCT
from ...profiles import signature as sig
from ...profiles.kv_layout import KV_LAYOUT, ROWS_AXIS, kv_shape, with_rows
from ..checkpoint.quantized import QuantizedWeight
from ..checkpoint.weights import WeightStore
from ..model.spec import DecoderLayer, DecoderSpec, Linear
from .graph import Graph
from .layers import DecoderLayers
from .lowering.lowering import KvPart, Lowering
from .positions import Angles

HIDDEN = -1e30  # added to the score of a pool row that a beam does not see


def build_decode(spec: DecoderSpec, store: WeightStore, lowering: Lowering) -> onnx.ModelProto:
    """One step of all beams over any prefix: KV lengths are dynamic in every layer."""
    g = Graph("decode", store, lowering)
    signature = _signature(spec, lowering)
    for tensor in signature.inputs:
        g.input(tensor)
    kind = _StepInPlace if lowering.pools_in_place else _Step
    kind(g, spec, lowering).run()
    for tensor in signature.outputs:
        g.output(tensor)
    return g.model(lowering.decoder_functions(spec.dims), lowering.domains)


def _signature(spec: DecoderSpec, lowering: Lowering) -> sig.Signature:
    if lowering.pools_in_place:
        return sig.decode_signature(spec.dims, spec.step_inputs, spec.prefix_type, in_place=True)
    return sig.step_signature(spec.dims, spec.step_inputs, spec.prefix_type, spec.word_heads)


class _Decode(DecoderLayers, ABC):
    """A step, layer by layer."""

    def run(self) -> None:
        """Append the whole step."""
        g = self.g
        rows = g.table_rows(self.spec.embedding, self._token_ids, "/embed_tokens")
        x, branch = self.entering(rows, "/embed_tokens/scale"), None
        bias = self._bias()
        for i, layer in enumerate(self.spec.layers):
            x, normed = self.norm(x, branch, layer.attn_norm, f"/layers.{i}/attn_norm")
            out = self.output(self._attention(i, layer, normed, bias), layer, f"/layers.{i}/attn")
            x, normed = self.norm(x, out, layer.mlp_norm, f"/layers.{i}/mlp_norm")
            branch = self.mlp(normed, layer, f"/layers.{i}/mlp")
        assert branch is not None
        self.scores(x, branch)

    @property
    def _token_ids(self) -> Value:
        """One for each row."""
        return Value(sig.TOKEN_IDS)

    def _bias(self) -> Value:
        """The pool mask as numbers to add to the scores."""
        g = self.g
        return g.op("Where", sig.POOL_MASK, g.const(0, np.float32), g.const(HIDDEN, np.float32))

    @abstractmethod
    def _attention(self, i: int, layer: DecoderLayer, normed: Value, bias: Value) -> Value:
        """What the rows of a step see in one layer, with the bias of its pool: (rows, query_width)."""

    def _rotated(self, i: int, layer: DecoderLayer, normed: Value) -> tuple[Value, Value, Value]:
        """Query, key and value of the rows of a step in one layer, the first two at their positions."""
        name, dims, rotate = f"/layers.{i}/attn", self.dims, self.rotary.rotate
        angles, log_n = self._angles_here(i), self._log_n_factors_here(i)
        query = rotate(self.query(normed, layer, name, log_n), dims.num_heads, angles, f"{name}/q")
        key = rotate(self.key(normed, layer, name), dims.num_kv_heads, angles, f"{name}/k")
        return query, key, self.value(normed, layer, name)

    @abstractmethod
    def _angles_here(self, i: int) -> Angles:
        """Of the position of each row in one layer."""

    @abstractmethod
    def _log_n_factors_here(self, i: int) -> Value | None:
        """By what the queries of one layer are multiplied, (rows, 1); None where the model has no log-n."""


class _StepInPlace(_Decode):
    """The step of one request.

    Everything that it computes with stays in place, so that a step can be replayed without the host.
    """

    def _attention(self, i: int, layer: DecoderLayer, normed: Value, bias: Value) -> Value:
        g, name, dims = self.g, f"/layers.{i}/attn", self.dims
        query, key, value = self._rotated(i, layer, normed)
        pool = KvPart(
            self._grow(sig.pool_key(i), self.cache_layout(key, f"{name}/new_key")),
            self._grow(sig.pool_value(i), self.cache_layout(value, f"{name}/new_value")),
            bias,
        )
        prefix = KvPart(self.read_prefix(sig.prefix_key(i)), self.read_prefix(sig.prefix_value(i)))
        out = self.lowering.decode_attention(g, name, dims, query, {"prefix": prefix, "pool": pool})
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

        A shape is a number of the host, so they are counted on the device.
        """
        g, rows = self.g, self.g.dim(prefix, ROWS_AXIS)
        counted = g.op(
            "Range", g.const(1), g.op("Squeeze", g.op("Add", rows, g.ints(1)), g.ints(0)), g.const(1)
        )
        return g.op("Gather", counted, g.ints(-1), axis=0)

    def _grow(self, pool: str, rows: Value) -> Value:
        return self.g.op(
            "ScatterElements", pool, self._places, rows, axis=ROWS_AXIS, outputs=[sig.grown(pool)]
        )

    @cached_property
    def _places(self) -> Value:
        """The row of the pool that each number of the new rows goes to, in KV layout."""
        g, beams = self.g, self.g.dim(sig.TOKEN_IDS, 0)
        row = g.range(beams)
        row = g.reshape(g.op("Add", row, sig.POOL_ROWS), *with_rows((1,) * len(KV_LAYOUT), -1))
        return g.op("Expand", row, g.shape(*kv_shape(self.dims, str(beams))), name="/pool")


class _Step(_Decode):
    """The step of several requests, whose new rows are outputs by themselves."""

    @cached_property
    def _beams(self) -> Value:
        return self.g.dim(sig.TOKEN_IDS, 1)

    def wide(self, x: Value, linear: Linear, name: str) -> Value:
        """Of many rows in another way, if the backend gains by that."""
        weight, others = linear.weight, linear.bias or linear.lora
        if isinstance(weight, QuantizedWeight) or others or not self.lowering.turns_many_rows:
            return super().wide(x, linear, name)
        out = self.g.op(STEP_PRODUCT, x, self.g.weight(weight), self._are_many, name=name, domain=DOMAIN)
        return self.g.shaped(out, (sig.BEAM_ROWS, weight.shape[0]))

    @cached_property
    def _are_many(self) -> Value:
        return self.g.op("GreaterOrEqual", self.g.op("Size", sig.TOKEN_IDS), self.g.const(MANY_ROWS))

    @cached_property
    def _token_ids(self) -> Value:
        return self.g.reshape(sig.TOKEN_IDS, -1)

    def _attention(self, i: int, layer: DecoderLayer, normed: Value, bias: Value) -> Value:
        g, name, dims = self.g, f"/layers.{i}/attn", self.dims
        query, key, value = self._rotated(i, layer, normed)
        prefix = self.read_prefix(sig.prefix_key(i)), self.read_prefix(sig.prefix_value(i))
        own = self._new(key, sig.new_key(i)), self._new(value, sig.new_value(i))
        parts = {
            "prefix": KvPart(*prefix, self._prefix_bias(i)),
            "pool": KvPart(sig.pool_key(i), sig.pool_value(i), bias),
            "own": KvPart(*own, self._own_bias),
        }
        self.tell_looks(i, query, prefix[0], self._beams, parts["prefix"].bias)
        out = self.lowering.decode_attention(g, name, dims, query, parts)
        return g.shaped(out, (sig.BEAM_ROWS, dims.query_width))

    def _new(self, x: Value, output: str) -> Value:
        """Write the rows of all requests, each request's in KV layout."""
        g, dims = self.g, self.dims
        split = g.reshape(x, -1, self._beams, dims.num_kv_heads, dims.head_dim)
        return g.op("Transpose", split, name=output, perm=[0, 2, 1, 3], outputs=[output])

    def _prefix_bias(self, i: int) -> Value:
        """What hides the rows after each prefix of one layer: (requests, 1, 1, capacity)."""
        return self.g.slice(self._prefix_biases[i], self.g.ints(0), self._capacity(i), 3)

    @cached_property
    def _prefix_biases(self) -> list[Value]:
        """Those of all layers, as wide as the largest capacity: (requests, 1, 1, capacity) each."""
        g, layers = self.g, self.dims.num_layers
        largest = g.op("ReduceMax", g.op("Concat", *map(self._capacity, range(layers)), axis=0), keepdims=0)
        row = g.op("Range", g.const(0), largest, g.const(1))
        used = g.op("Less", row, g.reshape(sig.PREFIX_LENGTHS, -1, 1, 1, 1))
        bias = g.op("Where", used, g.const(0, np.float32), g.const(HIDDEN, np.float32))
        return self._by_layer(bias)

    def _by_layer(self, x: Value) -> list[Value]:
        """A value of all layers along its first axis, cut into those of each."""
        layers = self.dims.num_layers
        return self.g.ops("Split", x, axis=0, num_outputs=layers, outputs=layers)

    def _capacity(self, i: int) -> Value:
        return self.g.dim(sig.prefix_key(i), ROWS_AXIS + 1)

    @cached_property
    def _own_bias(self) -> Value:
        """Of the rows of the step a beam sees its own: (beams, beams)."""
        g = self.g
        row = g.range(self._beams)
        same = g.op("Equal", row, g.op("Unsqueeze", row, g.ints(1)))
        return g.op("Where", same, g.const(0, np.float32), g.const(HIDDEN, np.float32))

    def _angles_here(self, i: int) -> Angles:
        return self._angles[i]

    @cached_property
    def _angles(self) -> list[Angles]:
        """Those of all layers."""
        g = self.g
        positions = g.op("Add", sig.PREFIX_LENGTHS, sig.STEPS)
        angles = self.rotary.angles(self._by_row(positions), "/rope")
        shape = self.dims.num_layers, -1, self.dims.head_dim // 2
        tables = (self._by_layer(g.reshape(table, *shape)) for table in (angles.cos, angles.sin))
        return [Angles(cos, sin) for cos, sin in zip(*tables, strict=True)]

    def _log_n_factors_here(self, i: int) -> Value | None:
        if self.log_n is None:
            return None
        return self.g.op("Gather", self._log_n_factors, self.g.const(i), axis=0)

    @cached_property
    def _log_n_factors(self) -> Value:
        """Of all layers: (layers, rows, 1)."""
        assert self.log_n is not None
        g = self.g
        before = g.op("Max", sig.PREFIX_LENGTHS, sig.ROWS_BEFORE_EVICTION)
        keys = g.op("Add", g.op("Add", before, sig.STEPS), g.ints(1))
        factors = self.log_n.factors(self._by_row(keys), "/log_n")
        return g.reshape(factors, self.dims.num_layers, -1, 1)

    def _by_row(self, counts: Value) -> Value:
        """Integers of each layer and request, (layers, requests), as float32 of each row of a request."""
        g = self.g
        each = g.op("Unsqueeze", g.op("Cast", counts, to=FLOAT), g.ints(2))
        return g.op("Expand", each, g.shape(1, 1, self._beams))
