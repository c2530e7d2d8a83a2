"""The encoder graph: one window of log-mel frames to rows of the decoder, or of what a wave encoder takes.

Only the rows that carry audio are computed, where the rows of a padded window attend to nothing else and are
dropped later: leaving them out changes no number, and a short clip costs what it is long. Where a model
attends to the silence of a full window, too, rows are dropped after the layers.
"""

from __future__ import annotations

import onnx

from ...profiles.signature import AUDIO_EMBEDS, ENCODER_ROWS, MEL, encoder_signature
from ...runtime.audio.log_mel import LogMelConfig
from ..checkpoint.weights import WeightStore
from ..model.spec import EncoderLayer, EncoderSpec, PooledHead, SpeechModelSpec, StackedHead
from .graph import Graph
from .heads import convolve, pool, project, stack
from .lowering.lowering import Lowering


def build_encoder(model: SpeechModelSpec, store: WeightStore, lowering: Lowering) -> onnx.ModelProto:
    """The encoder with its head, for any number of frames up to one window."""
    spec, front_end, head = model.encoder, model.front_end, model.encoder.head
    g = Graph("encoder", store, lowering)
    width = front_end.window_width(model.decoder.dims.hidden_size)
    signature = encoder_signature(spec.num_mel_bins, width)
    for tensor in signature.inputs:
        g.input(tensor)
    x = _convolutions(g, spec, front_end.log_mel)
    for i, layer in enumerate(spec.layers):
        x = _layer(g, lowering, spec, layer, x, f"/encoder/layers.{i}")
    if front_end.log_mel.full_windows:
        x = g.slice(x, g.ints(0), ENCODER_ROWS, 0)
    if isinstance(head, PooledHead):
        assert front_end.token_rule == "pooled", "this head pools whole groups of rows"
        x = pool(g, x, front_end.rows_per_token, spec.hidden_size)
        x = g.layer_norm(x, spec.final_norm, spec.norm_eps, "/encoder/final_norm")
        project(g, head, x)
    elif isinstance(head, StackedHead):
        assert front_end.token_rule == "pooled", "this head takes whole groups of rows"
        x = g.layer_norm(x, spec.final_norm, spec.norm_eps, "/encoder/final_norm")
        stack(g, head, x, front_end.rows_per_token, spec.hidden_size)
    else:
        x = g.layer_norm(x, spec.final_norm, spec.norm_eps, "/encoder/final_norm")
        convolve(g, head, front_end, x, "/encoder", outputs=[AUDIO_EMBEDS])
    for tensor in signature.outputs:
        g.output(tensor)
    return g.model(lowering.encoder_functions(spec.num_heads, spec.hidden_size), lowering.domains)


def _convolutions(g: Graph, spec: EncoderSpec, log_mel: LogMelConfig) -> str:
    """Log-mel frames to position-encoded rows (rows, hidden): those that carry audio, or a full window's."""
    x = g.op("Unsqueeze", g.to_activation(MEL), g.ints(0))
    for name, conv, stride in (("conv1", spec.conv1, 1), ("conv2", spec.conv2, log_mel.frames_per_row)):
        weights = g.weight(conv.weight), g.weight(conv.bias)
        place = f"/encoder/{name}"
        x = g.op("Conv", x, *weights, name=place, kernel_shape=[3], pads=[1, 1], strides=[stride])
        x = g.op("Gelu", x, name=place)
    x = g.op("Transpose", g.op("Squeeze", x, g.ints(0)), perm=[1, 0])
    positions = g.weight(spec.positions)
    if not log_mel.full_windows:
        x, positions = (g.slice(t, g.ints(0), ENCODER_ROWS, 0) for t in (x, positions))
    return g.op("Add", x, positions, name="/encoder/embed_positions")


def _layer(g: Graph, lowering: Lowering, spec: EncoderSpec, layer: EncoderLayer, x: str, name: str) -> str:
    y = g.layer_norm(x, layer.attn_norm, spec.norm_eps, f"{name}/attn_norm")
    parts = {"q_proj": layer.query, "k_proj": layer.key, "v_proj": layer.value}
    q, k, v = (g.linear(y, linear, f"{name}/attn/{part}") for part, linear in parts.items())
    attended = lowering.full_attention(g, f"{name}/attn", spec.num_heads, q, k, v)
    y = g.linear(g.shaped(attended, (None, spec.hidden_size)), layer.output, f"{name}/attn/out_proj")
    x = g.op("Add", x, y, name=f"{name}/attn")
    y = g.layer_norm(x, layer.mlp_norm, spec.norm_eps, f"{name}/mlp_norm")
    y = g.op("Gelu", g.linear(y, layer.fc1, f"{name}/mlp/fc1"), name=f"{name}/mlp")
    return g.op("Add", x, g.linear(y, layer.fc2, f"{name}/mlp/fc2"), name=f"{name}/mlp")
