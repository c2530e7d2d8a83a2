"""The audio encoder graph: one window of log-mel frames to decoder rows.

Only the rows that carry audio are computed: the rows of a padded window attend to nothing else and are
dropped later, so leaving them out changes no number and a short clip costs what it is long.
"""

from __future__ import annotations

import onnx

from ...profiles.signature import AUDIO_EMBEDS, ENCODER_ROWS, MEL, encoder_signature
from ..checkpoint.weights import WeightStore
from ..model.spec import EncoderLayer, EncoderSpec, SpeechModelSpec
from .graph import Graph
from .lowering.lowering import Lowering


def build_encoder(model: SpeechModelSpec, store: WeightStore, lowering: Lowering) -> onnx.ModelProto:
    """The encoder with its projector, for any number of frames up to one window."""
    spec, front_end = model.encoder, model.front_end
    g = Graph("encoder", store, lowering.precision)
    signature = encoder_signature(spec.num_mel_bins, model.decoder.dims.hidden_size)
    for tensor in signature.inputs:
        g.input(tensor)
    x = _convolutions(g, spec, front_end.log_mel.frames_per_row)
    for i, layer in enumerate(spec.layers):
        x = _layer(g, lowering, spec, layer, x, f"/encoder/layers.{i}")
    assert front_end.token_rule == "pooled", "this graph pools whole groups of rows"
    _project(g, spec, _pool(g, spec, front_end.rows_per_token, x))
    for tensor in signature.outputs:
        g.output(tensor)
    return g.model(lowering.encoder_functions(spec.num_heads, spec.hidden_size), lowering.domains)


def _convolutions(g: Graph, spec: EncoderSpec, frames_per_row: int) -> str:
    """Log-mel frames to position-encoded rows: (encoder_rows, hidden)."""
    x = g.op("Unsqueeze", g.to_activation(MEL), g.ints(0))
    for name, conv, stride in (("conv1", spec.conv1, 1), ("conv2", spec.conv2, frames_per_row)):
        assert conv.bias is not None
        weights = g.weight(conv.weight), g.weight(conv.bias)
        place = f"/encoder/{name}"
        x = g.op("Conv", x, *weights, name=place, kernel_shape=[3], pads=[1, 1], strides=[stride])
        x = g.op("Gelu", x, name=place)
    x = g.op("Transpose", g.op("Squeeze", x, g.ints(0)), perm=[1, 0])
    x, positions = (g.slice(t, g.ints(0), ENCODER_ROWS, 0) for t in (x, g.weight(spec.positions)))
    return g.op("Add", x, positions, name="/encoder/embed_positions")


def _layer(g: Graph, lowering: Lowering, spec: EncoderSpec, layer: EncoderLayer, x: str, name: str) -> str:
    y = g.layer_norm(x, layer.attn_norm, spec.norm_eps, f"{name}/attn_norm")
    parts = {"q_proj": layer.query, "k_proj": layer.key, "v_proj": layer.value}
    q, k, v = (g.linear(y, linear, f"{name}/attn/{part}") for part, linear in parts.items())
    attended = lowering.full_attention(g, f"{name}/attn", spec.num_heads, q, k, v)
    y = g.linear(g.shaped(attended, (ENCODER_ROWS, spec.hidden_size)), layer.output, f"{name}/attn/out_proj")
    x = g.op("Add", x, y, name=f"{name}/attn")
    y = g.layer_norm(x, layer.mlp_norm, spec.norm_eps, f"{name}/mlp_norm")
    y = g.op("Gelu", g.linear(y, layer.fc1, f"{name}/mlp/fc1"), name=f"{name}/mlp")
    return g.op("Add", x, g.linear(y, layer.fc2, f"{name}/mlp/fc2"), name=f"{name}/mlp")


def _pool(g: Graph, spec: EncoderSpec, size: int, x: str) -> str:
    """The mean of each `size` rows in turn; what is left at the end is dropped, as AvgPool1d drops it."""
    tokens = g.op("Div", ENCODER_ROWS, g.ints(size))
    x = g.slice(x, g.ints(0), g.op("Mul", tokens, g.ints(size)), 0)
    x = g.op("ReduceMean", g.reshape(x, -1, size, spec.hidden_size), g.ints(1), keepdims=0)
    return g.layer_norm(x, spec.final_norm, spec.norm_eps, "/encoder/final_norm")


def _project(g: Graph, spec: EncoderSpec, x: str) -> None:
    """Write the audio rows, with the rows before and after them where the model has such."""
    if spec.bos_eos_rows is None:
        g.linear(x, spec.projector, "/projector", outputs=[AUDIO_EMBEDS])
        return
    x = g.linear(x, spec.projector, "/projector")
    bos, eos = (g.op("Gather", g.weight(spec.bos_eos_rows), g.ints(i), axis=0) for i in (0, 1))
    g.op("Concat", bos, x, eos, axis=0, outputs=[AUDIO_EMBEDS])
