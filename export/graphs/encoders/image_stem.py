"""Convolutions over mel bins and time of each chunk of frames."""

from __future__ import annotations

from ....plugins.body import Value
from ....runtime.audio.log_mel import LogMelConfig
from ...model.spec import ImageStem
from ..graph import Graph
from .chunks import chunks_of, rows_of_chunks


def image_rows(g: Graph, stem: ImageStem, log_mel: LogMelConfig, positions: Value) -> Value:
    """The frames of a window to rows that carry audio: (rows, hidden). After the audio, zeros are heard."""
    x = g.op("Unsqueeze", chunks_of(g, log_mel.chunk_frames), g.ints(1))  # (chunks, 1, bins, frames)
    for i, conv in enumerate(stem.convolutions):
        weights, name = (g.weight(conv.weight), g.weight(conv.bias)), f"/encoder/conv2d.{i}"
        x = g.op("Conv", x, *weights, name=name, kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2])
        x = g.op("Gelu", x, name=name)
    hidden, width = stem.projection.weight.shape
    x = g.op("Transpose", x, perm=[0, 3, 1, 2])  # (chunks, rows, channels, bins)
    x = g.linear(g.reshape(x, -1, width), stem.projection, "/encoder/conv_out")
    return rows_of_chunks(g, g.reshape(x, -1, log_mel.chunk_rows, hidden), positions, hidden)
