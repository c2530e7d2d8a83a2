"""The graph of the prompt adapter: the text of a request to the strength of every LoRA."""

from __future__ import annotations

import numpy as np
import onnx

from ...plugins.body import Value
from ...profiles import signature as sig
from ..checkpoint.weights import WeightStore
from ..model.spec import DecoderSpec, PromptAdapter
from .graph import Graph
from .layers import DecoderLayers
from .lowering.lowering import Lowering
from .positions import Angles, prompt_positions


def build_prompt_adapter(
    spec: DecoderSpec, adapter: PromptAdapter, store: WeightStore, lowering: Lowering
) -> onnx.ModelProto:
    """All layers of the decoder without LoRA over a text of its own, then one vector of it."""
    g = Graph("prompt_adapter", store, lowering)
    signature = sig.prompt_adapter_signature(spec.dims)
    for tensor in signature.inputs:
        g.input(tensor)
    rows = _Text(g, spec.without_lora, lowering).rows()
    _strength(g, adapter, rows, spec.dims.hidden_size)
    for tensor in signature.outputs:
        g.output(tensor)
    return g.model(lowering.decoder_functions(spec.dims), lowering.domains)


class _Text(DecoderLayers):
    """A text, layer by layer, at positions from 0."""

    def rows(self) -> Value:
        """What the last layer gives, without the final norm: (text, hidden_size)."""
        g = self.g
        x = self.entering(
            g.table_rows(self.spec.embedding, sig.ADAPTER_IDS, "/embed_tokens"), "/embed_tokens/scale"
        )
        angles = self.rotary.angles(prompt_positions(g, x), "/rope")
        branch: Value | None = None
        for i in range(self.dims.num_layers):
            x, branch = self._layer(i, x, branch, angles)
        assert branch is not None
        return g.op("Add", x, branch, name="/rows")

    def _layer(self, i: int, x: Value, branch: Value | None, angles: Angles) -> tuple[Value, Value]:
        layer, name = self.spec.layers[i], f"/layers.{i}"
        x, normed = self.norm(x, branch, layer.attn_norm, f"{name}/attn_norm")
        out = self.output(self._attention(i, normed, angles), layer, f"{name}/attn")
        x, normed = self.norm(x, out, layer.mlp_norm, f"{name}/mlp_norm")
        return x, self.mlp(normed, layer, f"{name}/mlp")

    def _attention(self, i: int, normed: Value, angles: Angles) -> Value:
        layer, name, dims, rotate = self.spec.layers[i], f"/layers.{i}/attn", self.dims, self.rotary.rotate
        query = rotate(self.query(normed, layer, name), dims.num_heads, angles, f"{name}/q")
        key = rotate(self.key(normed, layer, name), dims.num_kv_heads, angles, f"{name}/k")
        key = self.cache_layout(key, f"{name}/key")
        value = self.cache_layout(self.value(normed, layer, name), f"{name}/value")
        out = self.lowering.causal_attention(self.g, name, dims, query, key, value)
        return self.g.shaped(out, (None, dims.query_width))


def _strength(g: Graph, adapter: PromptAdapter, rows: Value, hidden_size: int) -> None:
    """Write the vector: a mean of what two layers make of the rows, weighted by a third, within bounds."""
    name = "/prompt_adapter"
    wide = g.op("Gelu", g.linear(rows, adapter.fc1, f"{name}/fc1"), name=name)
    values = g.linear(wide, adapter.fc2, f"{name}/fc2")  # (text, hidden_size)
    shares = g.op("Softmax", g.linear(values, adapter.score, f"{name}/score"), axis=0, name=name)  # (text, 1)
    mean = g.op("Gemm", shares, values, name=f"{name}/mean", transA=1)  # (1, hidden_size)
    bounds = (g.const(bound, np.float32) for bound in (adapter.least, adapter.most))
    mean = g.to_float(g.op("Reshape", mean, g.ints(hidden_size)))
    within = g.op("Clip", mean, *bounds, name=name)  # in float32, as not every backend clips bf16
    g.op("Identity", g.to_activation(within), outputs=[sig.LORA_SCALE])
