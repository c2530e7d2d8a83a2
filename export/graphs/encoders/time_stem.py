"""Convolutions over time: of a window at once, or of each chunk of its frames for itself."""

from __future__ import annotations

from ....plugins.body import Value
from ....profiles.signature import MEL
from ....runtime.audio.log_mel import LogMelConfig
from ...model.spec import Convolution, TimeStem
from ..graph import Graph
from .chunks import chunks_of, places_of, rows_of_chunks


def window_rows(g: Graph, stem: TimeStem, log_mel: LogMelConfig) -> Value:
    """The frames of a window to rows: (rows, hidden)."""
    x = g.op("Unsqueeze", g.to_activation(MEL), g.ints(0))
    x = _convolution(g, stem.conv1, 1, x, "/encoder/conv1")
    x = _convolution(g, stem.conv2, log_mel.frames_per_row, x, "/encoder/conv2")
    return g.op("Transpose", g.op("Squeeze", x, g.ints(0)), perm=[1, 0])


def chunk_rows(g: Graph, stem: TimeStem, log_mel: LogMelConfig, positions: Value) -> Value:
    """The same where convolutions and positions begin anew with each chunk: rows that carry audio.

    The last chunk is filled up with zeros; of what the first convolution makes of these, the second one reads
    zeros again.
    """
    size = log_mel.chunk_frames
    x = _convolution(g, stem.conv1, 1, chunks_of(g, size), "/encoder/conv1")
    is_audio = g.op("CastLike", g.op("Less", places_of(g, MEL, size, 1), g.dim(MEL, 1)), x)
    x = g.op("Mul", x, g.reshape(is_audio, -1, 1, size), name="/encoder/audio")
    x = _convolution(g, stem.conv2, log_mel.frames_per_row, x, "/encoder/conv2")
    width = stem.conv2.weight.shape[0]
    return rows_of_chunks(g, g.op("Transpose", x, perm=[0, 2, 1]), positions, width)


def _convolution(g: Graph, conv: Convolution, stride: int, x: str, name: str) -> Value:
    weights = g.weight(conv.weight), g.weight(conv.bias)
    x = g.op("Conv", x, *weights, name=name, kernel_shape=[3], pads=[1, 1], strides=[stride])
    return g.op("Gelu", x, name=name)
