"""The graph of a conformer whose rows attend to one another in blocks, with a Q-Former as its head.

A query's product with the vectors of all distances of a block is one matrix product; which of them belongs to
which key is a skew of the result: reshaping, with rows one shorter than they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....plugins.body import BOOL, FLOAT, INT64, Body, Value, value
from ....profiles.signature import AUDIO_EMBEDS
from ....runtime.audio.front_end import FrontEnd
from ...model.conformer import (
    BlockAttention,
    ConformerLayer,
    ConformerSpec,
    ConvolutionModule,
    CrossAttention,
    FeedForward,
    QFormer,
    QFormerLayer,
)
from ..graph import Graph
from ..lowering.lowering import Lowering

HIDDEN_KEY = -30000.0  # added to the score of a key that is none; within the range of 16 bits


@dataclass(frozen=True)
class _Blocks:
    """Rows cut into blocks, the last one filled up."""

    count: Value  # int64 of shape (1,)
    missing: Value  # rows that fill up the last one, int64 of shape (1,)
    bias: Value  # (blocks, 1, 1, block): what hides the keys that fill up


def conformer(g: Graph, lowering: Lowering, spec: ConformerSpec, front_end: FrontEnd, frames: str) -> None:
    """Frames (rows, numbers) to the audio rows of the decoder, which it writes."""
    head = spec.head
    found = front_end.token_rule, front_end.rows_per_token, front_end.tokens_per_group
    assert found == ("begun", head.window, head.num_queries), "its windows are counted as begun"
    x = g.linear(frames, spec.embed, "/encoder/embed")
    blocks = _blocks(g, x, spec.block)
    for i, layer in enumerate(spec.layers):
        x = _layer(g, lowering, spec, layer, x, blocks, f"/encoder/layers.{i}")
        if spec.feedback and spec.feedback.after_layer == i + 1:
            heard = g.linear(x, spec.feedback.out, "/encoder/feedback/out")
            heard = g.op("Softmax", heard, axis=-1, name="/encoder/feedback")
            x = g.op("Add", x, g.linear(heard, spec.feedback.back, "/encoder/feedback/back"))
    _q_former(g, head, x, spec.hidden_size, "/q_former")


def _blocks(g: Graph, rows: str, size: int) -> _Blocks:
    count = _groups(g, rows, size)
    whole = g.op("Mul", count, g.ints(size))
    missing = g.op("Sub", whole, g.dim(rows, 0))
    places = g.range(whole)
    is_row = g.op("Less", places, g.dim(rows, 0), name="/encoder/is_row")
    bias = g.op("Where", is_row, g.number(0.0), g.number(HIDDEN_KEY), name="/encoder/hidden_keys")
    return _Blocks(count, missing, g.reshape(bias, -1, 1, 1, size))


def _groups(g: Graph, rows: str, size: int) -> Value:
    """How many groups of so many rows there are, the begun one included."""
    return g.op("Div", g.op("Add", g.dim(rows, 0), g.ints(size - 1)), g.ints(size))


def _filled(g: Graph, rows: str, missing: str) -> Value:
    """Rows with so many of zeros behind them; filled up in float32, for CUDA has no such kernel of bf16."""
    return g.to_activation(g.op("Pad", g.to_float(rows), g.shape(0, 0, missing, 0)))


def _layer(
    g: Graph,
    lowering: Lowering,
    spec: ConformerSpec,
    layer: ConformerLayer,
    x: str,
    blocks: _Blocks,
    name: str,
) -> Value:
    x = _half(g, spec, layer.before, x, f"{name}/before")
    y = _attention(g, lowering, spec, layer.attention, x, blocks, f"{name}/attn")
    x = g.op("Add", x, y, name=f"{name}/attn")
    x = g.op("Add", x, _convolution(g, spec, layer.convolution, x, f"{name}/conv"), name=f"{name}/conv")
    x = _half(g, spec, layer.after, x, f"{name}/after")
    return g.layer_norm(x, layer.norm, spec.norm_eps, f"{name}/norm")


def _half(g: Graph, spec: ConformerSpec, part: FeedForward, x: str, name: str) -> Value:
    """The rows and half of what an MLP makes of them."""
    y = g.linear(g.layer_norm(x, part.norm, spec.norm_eps, f"{name}/norm"), part.up, f"{name}/fc1")
    y = g.linear(_silu(g, y, name), part.down, f"{name}/fc2")
    return g.op("Add", x, g.op("Mul", y, g.number(0.5), name=f"{name}/half"), name=name)


def _silu(g: Graph, x: str, name: str) -> Value:
    return g.op("Mul", x, g.op("Sigmoid", x, name=name), name=name)


def _attention(
    g: Graph,
    lowering: Lowering,
    spec: ConformerSpec,
    part: BlockAttention,
    x: str,
    blocks: _Blocks,
    name: str,
) -> Value:
    x, rows = g.layer_norm(x, part.norm, spec.norm_eps, f"{name}_norm"), g.dim(x, 0)
    query = g.linear(x, part.query, f"{name}/q_proj")
    query = g.op("Mul", query, g.number(spec.head_dim**-0.5), name=f"{name}/q_scale")
    both = g.linear(x, part.key_value, f"{name}/kv_proj")
    key, val = g.ops("Split", both, axis=1, num_outputs=2, outputs=2)
    heads = spec.num_heads, spec.block, spec.head_dim
    split = [_by_head(g, _filled(g, t, blocks.missing), *heads) for t in (query, key, val)]
    distances = _distances(g, spec, part)
    if lowering.has_loops:
        out = _in_turn(g, spec, split, distances, blocks, name)
    else:
        q, k, v = split
        out = _attend(g, spec.block, q, k, v, distances, blocks.bias, name)
    out = g.reshape(g.op("Transpose", out, perm=[0, 2, 1, 3]), -1, spec.num_heads * spec.head_dim)
    out = g.shaped(g.slice(out, g.ints(0), rows, 0), (None, spec.num_heads * spec.head_dim))
    return g.linear(out, part.output, f"{name}/out_proj")


def _by_head(g: Body, rows: str, heads: int, length: int, head_dim: int) -> Value:
    """Rows (groups * length, heads * head_dim) to (groups, heads, length, head_dim)."""
    return g.op("Transpose", g.reshape(rows, -1, length, heads, head_dim), perm=[0, 2, 1, 3])


def _distances(g: Graph, spec: ConformerSpec, part: BlockAttention) -> Value:
    """The vectors of keys from a block before a query to one after it: (head_dim, 2 * block - 1)."""
    middle, reach = part.distances.shape[0] // 2, spec.block - 1
    places = g.const(np.arange(middle + reach, middle - reach - 1, -1))
    return g.op("Transpose", g.op("Gather", g.weight(part.distances), places, axis=0), perm=[1, 0])


def _attend(b: Body, block: int, q: str, k: str, v: str, distances: str, bias: str, name: str) -> Value:
    """Attention of whole blocks, all (blocks, heads, block, head_dim)."""
    scores = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2]), name=f"{name}/scores")
    skewed = b.op("MatMul", q, distances, name=f"{name}/distances")  # (blocks, heads, block, 2 * block - 1)
    shape = b.shape(0, 0, block * (2 * block - 1))
    skewed = b.op("Reshape", skewed, shape)
    first, width = block - 1, 2 * block - 2
    skewed = b.slice(skewed, b.ints(first), b.ints(first + block * width), 2)
    skewed = b.op("Reshape", skewed, b.shape(0, 0, block, width))
    skewed = b.slice(skewed, b.ints(0), b.ints(block), 3)
    scores = b.op("Add", b.op("Add", scores, skewed), bias, name=f"{name}/scores")
    return b.op("MatMul", b.op("Softmax", scores, axis=-1, name=name), v, name=name)


def _in_turn(
    g: Graph, spec: ConformerSpec, split: list[Value], distances: str, blocks: _Blocks, name: str
) -> Value:
    """The same, one block at a time, so that the scores of one are in memory."""
    step = Body(f"{name}/block_")
    count, go = f"{step.prefix}i", f"{step.prefix}go"
    at = step.reshape(count, 1)
    q, k, v, bias = (step.op("Gather", x, at, axis=0) for x in (*split, blocks.bias))
    out = _attend(step, spec.block, q, k, v, distances, bias, name)
    shape = [spec.num_heads, spec.block, spec.head_dim]
    out = step.op("Squeeze", out, step.ints(0))
    inputs = [value(count, INT64, []), value(go, BOOL, [])]
    return g.loop(blocks.count, step, inputs, [value(out, FLOAT, shape)])[0]


def _convolution(g: Graph, spec: ConformerSpec, part: ConvolutionModule, x: str, name: str) -> Value:
    x = g.layer_norm(x, part.norm, spec.norm_eps, f"{name}/norm")
    x = g.op("Unsqueeze", g.op("Transpose", x, perm=[1, 0]), g.ints(0))
    x = g.op("Conv", x, g.weight(part.up.weight), g.weight(part.up.bias), name=f"{name}/up", kernel_shape=[1])
    kept, gate = g.ops("Split", x, axis=1, num_outputs=2, outputs=2)
    x = g.op("Mul", kept, g.op("Sigmoid", gate, name=f"{name}/up"), name=f"{name}/up")
    channels, _, kernel = part.depth.shape
    x = g.op(
        "Conv",
        x,
        *_normed(g, part, f"{name}/depth_norm"),
        name=f"{name}/depth",
        kernel_shape=[kernel],
        pads=[kernel // 2, (kernel - 1) // 2],
        group=channels,
    )
    weights = g.weight(part.down.weight), g.weight(part.down.bias)
    x = g.op("Conv", _silu(g, x, f"{name}/depth"), *weights, name=f"{name}/down", kernel_shape=[1])
    return g.op("Transpose", g.op("Squeeze", x, g.ints(0)), perm=[1, 0])


def _normed(g: Graph, part: ConvolutionModule, name: str) -> tuple[Value, Value]:
    """Taps and bias of the convolution of each channel with its batch norm in them: constants."""
    norm = part.depth_norm
    gain, shift, mean, variance = (
        g.to_float(g.weight(each)) for each in (norm.gain, norm.shift, norm.mean, norm.variance)
    )
    deviation = g.op("Sqrt", g.op("Add", variance, g.const(norm.eps, np.float32)), name=name)
    gain = g.op("Div", gain, deviation, name=name)
    taps = g.op("Mul", g.to_float(g.weight(part.depth)), g.reshape(gain, -1, 1, 1), name=name)
    bias = g.op("Sub", shift, g.op("Mul", mean, gain, name=name), name=name)
    return g.to_activation(taps), g.to_activation(bias)


def _q_former(g: Graph, head: QFormer, x: str, hidden_size: int, name: str) -> None:
    """Write the audio rows: those that the queries make of each window."""
    windows, width = _groups(g, x, head.window), int(head.queries.shape[2])
    missing = g.op("Sub", g.op("Mul", windows, g.ints(head.window)), g.dim(x, 0))
    heard = g.shaped(_filled(g, x, missing), (None, hidden_size))
    y = g.reshape(g.weight(head.queries), 1, head.num_queries, width)
    y = g.op("Expand", y, g.shape(windows, head.num_queries, width))
    y = g.layer_norm(g.reshape(y, -1, width), head.norm, head.norm_eps, f"{name}/norm")
    for i, layer in enumerate(head.layers):
        y = _q_former_layer(g, head, layer, y, heard, f"{name}/layers.{i}")
    g.linear(y, head.projector, "/projector", outputs=[AUDIO_EMBEDS])


def _q_former_layer(g: Graph, head: QFormer, layer: QFormerLayer, y: str, heard: str, name: str) -> Value:
    y = _cross(g, head, layer.own, y, (y, head.num_queries), f"{name}/attn")
    if layer.crossing:
        y = _cross(g, head, layer.crossing, y, (heard, head.window), f"{name}/crossing")
    z = g.op("Gelu", g.linear(y, layer.fc1, f"{name}/mlp/fc1"), name=f"{name}/mlp")
    z = g.op("Add", y, g.linear(z, layer.fc2, f"{name}/mlp/fc2"), name=f"{name}/mlp")
    return g.layer_norm(z, layer.norm, head.norm_eps, f"{name}/mlp_norm")


def _cross(g: Graph, head: QFormer, part: CrossAttention, y: str, heard: tuple[str, int], name: str) -> Value:
    """Attention of each window's queries to so many rows of the same window."""
    rows, length = heard
    width = int(part.query.weight.shape[0])
    head_dim = width // head.num_heads
    q = g.linear(y, part.query, f"{name}/q_proj")
    q = g.op("Mul", q, g.number(head_dim**-0.5), name=f"{name}/q_scale")
    q = _by_head(g, q, head.num_heads, head.num_queries, head_dim)
    k, v = (
        _by_head(g, g.linear(rows, linear, f"{name}/{part_name}"), head.num_heads, length, head_dim)
        for part_name, linear in (("k_proj", part.key), ("v_proj", part.value))
    )
    scores = g.op("MatMul", q, g.op("Transpose", k, perm=[0, 1, 3, 2]), name=f"{name}/scores")
    out = g.op("MatMul", g.op("Softmax", scores, axis=-1, name=name), v, name=name)
    out = g.reshape(g.op("Transpose", out, perm=[0, 2, 1, 3]), -1, width)
    y = g.op("Add", y, g.linear(g.shaped(out, (None, width)), part.output, f"{name}/out_proj"), name=name)
    return g.layer_norm(y, part.norm, head.norm_eps, f"{name}_norm")
