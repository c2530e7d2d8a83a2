"""The graph of tokenizers of causal convolutions over the samples of a window.

The window begins as if nothing came before it. So all rows are computed, and the first ones are dropped: they
are there for those after them to depend on.
"""

from __future__ import annotations

from ....plugins.body import Value
from ....profiles.signature import AUDIO_EMBEDS, ENCODER_ROWS
from ....runtime.audio.front_end import FrontEnd
from ...model.conv_tokenizer import ConvBlock, ConvStage, ConvTokenizer, ConvTokenizersSpec
from ...model.spec import Convolution
from ..graph import Graph

NAMES = "/encoder", "/encoder/second"
"""Of the nodes of each tokenizer."""


def conv_tokenizers(
    g: Graph, spec: ConvTokenizersSpec, front_end: FrontEnd, hidden_size: int, frames: str
) -> None:
    """Frames (rows, samples of a row) to the audio rows of the decoder, which it writes."""
    found = front_end.token_rule, front_end.rows_per_token, front_end.tokens_per_group
    assert found == ("pooled", 1, 1), "every row is a token"
    samples = g.reshape(frames, 1, 1, -1)
    parts = [
        _tokenizer(g, spec, each, samples, name) for each, name in zip(spec.tokenizers, NAMES, strict=True)
    ]
    rows = g.shaped(g.op("Add", *parts, name="/projector"), (None, hidden_size))
    first = g.op("Sub", g.dim(rows, 0), ENCODER_ROWS)
    g.op("Slice", rows, first, g.dim(rows, 0), g.ints(0), name="/projector", outputs=[AUDIO_EMBEDS])


def _tokenizer(g: Graph, spec: ConvTokenizersSpec, part: ConvTokenizer, samples: str, name: str) -> Value:
    """Samples (1, 1, samples) to what they add to the audio rows."""
    x = samples
    for i, stage in enumerate(part.stages):
        x = _stage(g, stage, part.norm_eps, x, f"{name}/layers.{i - 1}" if i else f"{name}/stem")
    rows = _to_rows(g, _convolve(g, part.head, 1, x, f"{name}/head"), int(part.head.weight.shape[0]))
    y = g.linear(rows, part.fc1, f"{name}/projector/fc1")
    y = g.rms_norm(y, part.norm, spec.projector_eps, f"{name}/projector/norm")
    return g.linear(y, part.fc2, f"{name}/projector/fc2")


def _stage(g: Graph, stage: ConvStage, eps: float, x: str, name: str) -> Value:
    """Channels over time, (1, channels, rows), to other channels over fewer rows."""
    x = _convolve(g, stage.convolution, stage.stride, x, f"{name}/convolution")
    rows = _to_rows(g, x, int(stage.convolution.weight.shape[0]))
    for i, block in enumerate(stage.blocks):
        rows = _block(g, block, eps, rows, f"{name}/blocks.{i}")
    return _to_channels(g, rows)


def _block(g: Graph, block: ConvBlock, eps: float, x: str, name: str) -> Value:
    """Rows (rows, channels) to rows."""
    y = g.rms_norm(x, block.norm, eps, f"{name}/norm")
    channels = int(block.mixer.weight.shape[0])
    y = _convolve(g, block.mixer, 1, _to_channels(g, y), f"{name}/mixer", channels)
    # Beside a transposed tensor ONNX Runtime would give this weight another shape under the same name, and
    # sessions that share the weights of a file have it as it was.
    y = g.op("Mul", y, g.reshape(g.weight(block.scale), 1, -1, 1), name=f"{name}/mixer")
    x = g.op("Add", x, _to_rows(g, y, channels), name=f"{name}/mixer")
    y = g.rms_norm(x, block.mlp_norm, eps, f"{name}/mlp_norm")
    y = g.op("Gelu", g.linear(y, block.fc1, f"{name}/mlp/fc1"), name=f"{name}/mlp")
    y = g.linear(y, block.fc2, f"{name}/mlp/fc2")
    return g.op("Add", x, g.op("Mul", y, g.weight(block.mlp_scale), name=f"{name}/mlp"), name=f"{name}/mlp")


def _convolve(g: Graph, part: Convolution, stride: int, x: str, name: str, groups: int = 1) -> Value:
    """A causal convolution of (1, channels, rows), a whole number of strides long."""
    kernel = int(part.weight.shape[2])
    weights = g.weight(part.weight), g.weight(part.bias)
    return g.op(
        "Conv",
        x,
        *weights,
        name=name,
        kernel_shape=[kernel],
        pads=[kernel - stride, 0],
        strides=[stride],
        group=groups,
    )


def _to_rows(g: Graph, x: str, channels: int) -> Value:
    rows = g.op("Transpose", g.op("Squeeze", x, g.ints(0)), perm=[1, 0])
    return g.shaped(rows, (None, channels))


def _to_channels(g: Graph, rows: str) -> Value:
    return g.op("Unsqueeze", g.op("Transpose", rows, perm=[1, 0]), g.ints(0))
