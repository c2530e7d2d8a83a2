"""The graph of the second encoder of a tower: a whole wave, and the rows of its windows, to decoder rows.

Nothing of it can be cut into windows: the first convolution is normalised over all time, and every row
attends to every other one.
"""

from __future__ import annotations

import onnx

from ...plugins.body import Value
from ...plugins.relative_attention.function import SkewedBias, append_skewed_bias
from ...profiles.signature import AUDIO_EMBEDS, WINDOW_EMBEDS, wave_encoder_signature
from ...runtime.audio.front_end import FrontEnd
from ..checkpoint.weights import WeightStore
from ..model.spec import WaveEncoderSpec, WaveLayer
from .graph import Graph
from .heads import convolve
from .lowering.lowering import Lowering
from .wave_features import features, features_in_chunks


def build_wave_encoder(
    spec: WaveEncoderSpec, front_end: FrontEnd, hidden_size: int, store: WeightStore, lowering: Lowering
) -> onnx.ModelProto:
    """The encoder with its head and what joins it with the windows, for a wave that gives a token or more.

    Args:
        spec: the encoder.
        front_end: how its rows become tokens.
        hidden_size: of the decoder.
        store: where the weights are.
        lowering: the backend.
    """
    wave = front_end.wave
    assert wave is not None, "the front end counts the rows of the wave"
    g = Graph("wave_encoder", store, lowering)
    signature = wave_encoder_signature(wave.window_width, hidden_size)
    for tensor in signature.inputs:
        g.input(tensor)
    if lowering.has_loops:
        x = features_in_chunks(g, spec, wave)
    else:
        x = features(g, spec, by_moments=not lowering.normalises_over_time)
    x = _states(g, spec, lowering, _embed(g, spec, x))
    _fuse(g, spec, convolve(g, spec.head, front_end, x, "/wave"))
    for tensor in signature.outputs:
        g.output(tensor)
    return g.model((), lowering.domains)


def _embed(g: Graph, spec: WaveEncoderSpec, x: str) -> Value:
    """Feature rows to the first hidden state: (rows, hidden)."""
    x = g.layer_norm(x, spec.feature_norm, spec.norm_eps, "/wave/feature_norm")
    x = g.linear(x, spec.feature_projection, "/wave/feature_projection")
    weights, kernel = (g.weight(spec.positions.weight), g.weight(spec.positions.bias)), _kernel(spec)
    y = g.op(
        "Conv",
        g.op("Unsqueeze", g.op("Transpose", x, perm=[1, 0]), g.ints(0)),
        *weights,
        name="/wave/positions",
        kernel_shape=[kernel],
        pads=[kernel // 2, kernel // 2],
        group=spec.position_groups,
    )
    y = g.slice(y, g.ints(0), g.dim(x, 0), 2)  # an even kernel gives one row more
    y = g.op("Transpose", g.op("Squeeze", g.op("Gelu", y, name="/wave/positions"), g.ints(0)), perm=[1, 0])
    return g.layer_norm(g.op("Add", x, y), spec.embed_norm, spec.norm_eps, "/wave/embed_norm")


def _kernel(spec: WaveEncoderSpec) -> int:
    return spec.positions.weight.shape[2]


def _states(g: Graph, spec: WaveEncoderSpec, lowering: Lowering, x: str) -> Value:
    """All layers: the sum of their hidden states and the first one, each with its share."""
    reach = spec.bias_by_distance.shape[1] // 2
    chunks = lowering.relative_chunks(spec.num_heads)
    skewed = append_skewed_bias(g, g.weight(spec.bias_by_distance), reach, g.dim(x, 0), chunks)
    shares = g.weight(spec.state_shares)
    total = g.op("Mul", x, g.op("Gather", shares, g.ints(0)))
    for i, layer in enumerate(spec.layers):
        x = _layer(g, spec, lowering, layer, x, skewed, f"/wave/layers.{i}")
        total = g.op("Add", total, g.op("Mul", x, g.op("Gather", shares, g.ints(i + 1))))
    return total


def _layer(
    g: Graph,
    spec: WaveEncoderSpec,
    lowering: Lowering,
    layer: WaveLayer,
    x: str,
    skewed: SkewedBias,
    name: str,
) -> Value:
    parts = {"q_proj": layer.query, "k_proj": layer.key, "v_proj": layer.value}
    q, k, v = (g.linear(x, linear, f"{name}/attn/{part}") for part, linear in parts.items())
    heads = spec.num_heads, spec.hidden_size // spec.num_heads
    gate = _gate(g, layer, heads, x, f"{name}/attn/gate")
    attended = lowering.relative_attention(g, f"{name}/attn", heads, q, k, v, gate, skewed)
    attended = g.shaped(attended, (None, spec.hidden_size))
    x = g.op("Add", x, g.linear(attended, layer.output, f"{name}/attn/out_proj"), name=f"{name}/attn")
    x = g.layer_norm(x, layer.attn_norm, spec.norm_eps, f"{name}/attn_norm")
    y = g.op("Gelu", g.linear(x, layer.fc1, f"{name}/mlp/fc1"), name=f"{name}/mlp")
    x = g.op("Add", x, g.linear(y, layer.fc2, f"{name}/mlp/fc2"), name=f"{name}/mlp")
    return g.layer_norm(x, layer.mlp_norm, spec.norm_eps, f"{name}/mlp_norm")


def _gate(g: Graph, layer: WaveLayer, heads: tuple[int, int], x: str, name: str) -> Value:
    """What each query multiplies its bias by: (rows, heads)."""
    num_heads, head_dim = heads
    pair = g.op("Sigmoid", g.linear(g.reshape(x, -1, head_dim), layer.gate, name), name=name)
    pair = g.reshape(pair, -1, num_heads, 2)
    a, b = (g.op("Gather", pair, g.const(i), axis=2) for i in (0, 1))
    scale = g.reshape(g.weight(layer.gate_scale), 1, num_heads)
    inner = g.op("Sub", g.op("Mul", b, scale), g.number(1.0))
    return g.op("Add", g.op("Mul", a, inner), g.number(2.0), name=name)


def _fuse(g: Graph, spec: WaveEncoderSpec, tokens: str) -> None:
    """Write the decoder rows: windows and wave side by side, as many as the shorter has."""
    count = g.op("Min", g.dim(WINDOW_EMBEDS, 0), g.dim(tokens, 0))
    both = (g.slice(x, g.ints(0), count, 0) for x in (WINDOW_EMBEDS, tokens))
    g.linear(g.op("Concat", *both, axis=1), spec.fusion, "/fusion", outputs=[AUDIO_EMBEDS])
