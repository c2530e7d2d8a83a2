"""The heads of audio encoders: rows of an encoder to audio tokens."""

from __future__ import annotations

from typing import Any

from ...plugins.body import Value
from ...profiles.signature import AUDIO_EMBEDS
from ...runtime.audio.front_end import FrontEnd
from ..model.spec import Convolution, ConvolvedHead, Linear, PooledHead, StackedHead
from .graph import Graph


def pool(g: Graph, x: str, size: int, width: int) -> Value:
    """The mean of each `size` rows in turn; what is left at the end is dropped, as AvgPool1d drops it."""
    return g.op("ReduceMean", g.reshape(_whole_groups(g, x, size), -1, size, width), g.ints(1), keepdims=0)


def stack(g: Graph, head: StackedHead, x: str, size: int, width: int) -> None:
    """Write the audio rows of each `size` rows in turn, side by side; what is left at the end is dropped."""
    stacked = g.reshape(_whole_groups(g, x, size), -1, size * width)
    g.linear(_hidden(g, stacked, head.hidden), head.projector, "/projector", outputs=[AUDIO_EMBEDS])


def _whole_groups(g: Graph, x: str, size: int) -> Value:
    tokens = g.op("Div", g.dim(x, 0), g.ints(size))
    return g.slice(x, g.ints(0), g.op("Mul", tokens, g.ints(size)), 0)


def _hidden(g: Graph, x: str, linear: Linear) -> Value:
    return g.op("Gelu", g.linear(x, linear, "/projector/hidden"), name="/projector/hidden")


def project(g: Graph, head: PooledHead, x: str) -> None:
    """Write the audio rows, with the rows before and after them where the model has such."""
    if head.hidden is not None:
        x = _hidden(g, x, head.hidden)
    if head.bos_eos_rows is None:
        g.linear(x, head.projector, "/projector", outputs=[AUDIO_EMBEDS])
        return
    x = g.linear(x, head.projector, "/projector")
    bos, eos = (g.op("Gather", g.weight(head.bos_eos_rows), g.ints(i), axis=0) for i in (0, 1))
    g.op("Concat", bos, x, eos, axis=0, outputs=[AUDIO_EMBEDS])


def convolve(g: Graph, head: ConvolvedHead, front_end: FrontEnd, x: str, name: str, **output: Any) -> Value:
    """Rows (rows, width) to tokens (tokens, out), a part of a group at the end included."""
    halvings = len(head.convolutions)
    assert (front_end.token_rule, front_end.rows_per_token) == ("begun", 2**halvings), "it halves rows"
    x = g.op("Unsqueeze", g.op("Transpose", x, perm=[1, 0]), g.ints(0))
    for i, convolution in enumerate(head.convolutions):
        x = _gated(g, convolution, x, f"{name}/subsample.{i}")
    x = g.op("Transpose", g.op("Squeeze", x, g.ints(0)), perm=[1, 0])
    return g.linear(_adapt(g, head, x, f"{name}/adapter"), head.projector, f"{name}/projector", **output)


def _gated(g: Graph, convolution: Convolution, x: str, name: str) -> Value:
    """A convolution whose first half of the channels is gated by the second."""
    weights = g.weight(convolution.weight), g.weight(convolution.bias)
    x = g.op("Conv", x, *weights, name=name, kernel_shape=[3], pads=[1, 1], strides=[2])
    kept, gate = g.ops("Split", x, axis=1, num_outputs=2, outputs=2)
    return g.op("Mul", kept, g.op("Sigmoid", gate, name=name), name=name)


def _adapt(g: Graph, head: ConvolvedHead, x: str, name: str) -> Value:
    """The rows and what a bottleneck adds to them."""
    y = g.op("Gelu", g.linear(x, head.down, f"{name}/down"), name=f"{name}/down")
    y = g.layer_norm(g.linear(y, head.up, f"{name}/up"), head.norm, head.norm_eps, f"{name}/norm")
    return g.op("Add", x, y, name=name)
