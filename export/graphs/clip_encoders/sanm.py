"""The graph of a SAN-M encoder: attention over all rows with a memory of the values beside it."""

from __future__ import annotations

import math

import numpy as np

from ....plugins.body import BOOL, FLOAT, INT64, Body, Value, value
from ....profiles.signature import AUDIO_EMBEDS
from ....runtime.audio.front_end import FrontEnd
from ...checkpoint.derived import Weight
from ...model.sanm import SanmLayer, SanmSpec
from ..graph import Graph
from ..lowering.lowering import Lowering

LONGEST_WAVE = 10000.0  # of the sinusoids of positions, in radians to the row


def sanm(g: Graph, lowering: Lowering, spec: SanmSpec, front_end: FrontEnd, frames: str) -> None:
    """Frames (rows, numbers) to the audio rows of the decoder, which it writes."""
    found = front_end.token_rule, front_end.rows_per_token, front_end.tokens_per_group
    assert found == ("pooled", 1, 1), "every row is a token"
    hidden = int(spec.layers[0].query.weight.shape[0])
    x = g.op("Mul", frames, g.number(math.sqrt(hidden)), name="/encoder/scale")
    x = g.op("Add", x, _positions(g, frames, spec.num_mel_bins), name="/encoder/positions")
    for i, layer in enumerate(spec.layers):
        heads = spec.num_heads, spec.norm_eps
        x = _layer(g, lowering, layer, heads, x, f"/encoder/layers.{i}")
    adaptor = spec.adaptor
    x = g.op("Relu", g.linear(x, adaptor.fc1, "/projector/fc1"), name="/projector")
    x = g.linear(x, adaptor.fc2, "/projector/fc2")
    for i, layer in enumerate(adaptor.layers):
        heads = adaptor.num_heads, spec.adaptor_norm_eps
        x = _layer(g, lowering, layer, heads, x, f"/projector/layers.{i}")
    g.op("Identity", x, name="/projector", outputs=[AUDIO_EMBEDS])


def _positions(g: Graph, rows: str, width: int) -> Value:
    """Sinusoids of the places of the rows, which count from 1: (rows, width), sines before cosines."""
    half = width // 2
    steps = np.exp(np.arange(half, dtype=np.float32) * np.float32(-math.log(LONGEST_WAVE) / (half - 1)))
    end = g.op("Add", g.dim(rows, 0), g.ints(1))
    places = g.op("Range", g.const(1), g.op("Squeeze", end, g.ints(0)), g.const(1))
    places = g.op("Unsqueeze", g.op("Cast", places, to=FLOAT), g.ints(1))
    angles = g.op("Mul", places, g.const(steps[None], np.float32), name="/encoder/angles")
    both = [g.op(kind, angles, name="/encoder/angles") for kind in ("Sin", "Cos")]
    return g.to_activation(g.op("Concat", *both, axis=1, name="/encoder/angles"))


def _layer(
    g: Graph, lowering: Lowering, layer: SanmLayer, heads: tuple[int, float], x: str, name: str
) -> Value:
    """One layer, of so many heads and with norms of this epsilon."""
    num_heads, eps = heads
    y = g.layer_norm(x, layer.attn_norm, eps, f"{name}/attn_norm")
    parts = {"q_proj": layer.query, "k_proj": layer.key, "v_proj": layer.value}
    q, k, v = (g.linear(y, linear, f"{name}/attn/{part}") for part, linear in parts.items())
    attended = _attend(g, lowering, f"{name}/attn", (num_heads, int(layer.query.weight.shape[0])), (q, k, v))
    y = g.linear(attended, layer.output, f"{name}/attn/out_proj")
    if layer.memory is not None:
        remembered = g.op("Add", v, _remember(g, layer.memory, v, f"{name}/memory"), name=f"{name}/memory")
        y = g.op("Add", y, remembered, name=f"{name}/attn/memory")
    x = g.op("Add", x, y, name=f"{name}/attn") if layer.adds else y
    y = g.linear(g.layer_norm(x, layer.mlp_norm, eps, f"{name}/mlp_norm"), layer.fc1, f"{name}/mlp/fc1")
    y = g.op("Relu", y, name=f"{name}/mlp")
    x = g.op("Add", x, g.linear(y, layer.fc2, f"{name}/mlp/fc2"), name=f"{name}/mlp")
    return x if layer.final_norm is None else g.layer_norm(x, layer.final_norm, eps, f"{name}/final_norm")


def _attend(
    g: Graph, lowering: Lowering, name: str, shape: tuple[int, int], rows: tuple[str, str, str]
) -> Value:
    """Attention of all rows to all rows, for a number of heads and the width of all of them.

    The function that a lowering has for it is of one layout of heads, and there may be two here; so a backend
    with loops gets the nodes.
    """
    num_heads, width = shape
    if not lowering.has_loops:
        return g.shaped(lowering.full_attention(g, name, num_heads, *rows), (None, width))
    head_dim = width // num_heads
    q, k, v = (g.op("Transpose", g.reshape(x, -1, num_heads, head_dim), perm=[1, 0, 2]) for x in rows)
    q = g.op("Mul", q, g.number(head_dim**-0.5), name=f"{name}/q_scale")
    step = Body(f"{name}/head_")
    at, go = f"{step.prefix}i", f"{step.prefix}go"
    q_head, k_head, v_head = (step.op("Gather", x, at, axis=0) for x in (q, k, v))
    scores = step.op("MatMul", q_head, step.op("Transpose", k_head, perm=[1, 0]), name=f"{name}/scores")
    out = step.op("MatMul", step.op("Softmax", scores, axis=-1, name=name), v_head, name=name)
    inputs = [value(at, INT64, []), value(go, BOOL, [])]
    (out,) = g.loop(g.ints(num_heads), step, inputs, [value(out, FLOAT, [None, head_dim])])
    return g.shaped(g.reshape(g.op("Transpose", out, perm=[1, 0, 2]), -1, width), (None, width))


def _remember(g: Graph, memory: Weight, values: str, name: str) -> Value:
    """What a convolution of each channel makes of values (rows, width)."""
    channels, _, kernel = memory.shape
    x = g.op("Unsqueeze", g.op("Transpose", values, perm=[1, 0]), g.ints(0))
    pads = [(kernel - 1) // 2, kernel // 2]
    x = g.op("Conv", x, g.weight(memory), name=name, kernel_shape=[kernel], pads=pads, group=channels)
    return g.op("Transpose", g.op("Squeeze", x, g.ints(0)), perm=[1, 0])
