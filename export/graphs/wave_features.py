"""The convolutions over a wave, the first of which is normalised over all time.

A graph with loops makes the features a chunk at a time, because whole they are large: 400 bytes for each
sample. It takes the norm from the moments of what one output of the first convolution sees: for the taps w
of a channel and x of a place, with the mean m and the second moments R = E[x x^T] over all places,

    E[w x] = w m        Var[w x] = w R w^T - (w m)^2,

so the norm is part of the taps and of a bias. The moments are float64, because the variance is a small
difference where a channel hears little of a loud wave.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from ...plugins.body import BOOL, FLOAT, INT64, Body, Value, value
from ...profiles.signature import WAVE
from ...runtime.audio.front_end import WaveEncoder
from ..model.spec import WaveConvolution, WaveEncoderSpec
from .graph import Graph

CHANNEL_NORM_EPS = 1e-5  # no setting changes it
CHUNK = 256  # rows at a time, 5 s of WavLM


def features(g: Graph, spec: WaveEncoderSpec, by_moments: bool = False) -> Value:
    """Samples to feature rows (rows, channels), all at once; in float32 up to the norm, as samples are.

    With `by_moments` the norm is in the taps, for backends that have none over time.
    """
    first, *others = spec.convolutions
    wave = g.reshape(WAVE, 1, 1, -1)
    if by_moments:
        x = _convolve(g, first, wave, *_normalised(g, spec), name="/wave/conv.0")
    else:
        parts = first.weight, spec.channel_norm.weight, spec.channel_norm.bias
        taps, *norm = (g.to_float(g.weight(part)) for part in parts)
        x = _convolve(g, first, wave, taps, name="/wave/conv.0")
        x = g.op("InstanceNormalization", x, *norm, name="/wave/conv.0/norm", epsilon=CHANNEL_NORM_EPS)
    x = g.op("Gelu", g.to_activation(x), name="/wave/conv.0")
    for i, convolution in enumerate(others, 1):
        name = f"/wave/conv.{i}"
        x = g.op("Gelu", _convolve(g, convolution, x, g.weight(convolution.weight), name=name), name=name)
    return g.op("Transpose", g.op("Squeeze", x, g.ints(0)), perm=[1, 0])


def features_in_chunks(g: Graph, spec: WaveEncoderSpec, wave: WaveEncoder) -> Value:
    """The same, in chunks of equal length."""
    first, step = wave.first_samples, wave.step_samples
    taps, bias = _normalised(g, spec)
    rows = g.op("Div", g.op("Sub", g.dim(WAVE, 0), g.ints(first - step)), g.ints(step))
    count = _ceiling(g, rows, g.ints(CHUNK))
    length = _ceiling(g, rows, count)
    advance = g.op("Mul", length, g.ints(step))  # samples from one chunk to the next
    size = g.op("Add", advance, g.ints(first - step))
    missing = g.op("Sub", g.op("Add", g.op("Mul", count, advance), g.ints(first - step)), g.dim(WAVE, 0))
    padded = g.op("Pad", WAVE, g.shape(0, g.op("Max", missing, g.ints(0))))
    chunk = Body("/wave/chunk_")
    start = chunk.op("Mul", chunk.reshape(f"{chunk.prefix}i", 1), advance)
    x = chunk.reshape(chunk.slice(padded, start, chunk.op("Add", start, size), 0), 1, 1, -1)
    for i, convolution in enumerate(spec.convolutions):
        weights = (g.weight(convolution.weight),) if i else (taps, bias)
        x = chunk.op("Gelu", _convolve(chunk, convolution, x, *weights, name=f"/wave/conv.{i}"))
    y = chunk.op("Transpose", chunk.op("Squeeze", x, chunk.ints(0)), perm=[1, 0])
    counters = [value(f"{chunk.prefix}i", INT64, []), value(f"{chunk.prefix}go", BOOL, [])]
    channels = spec.convolutions[-1].weight.shape[0]
    (stacked,) = g.loop(count, chunk, counters, [value(y, FLOAT, [None, channels])])
    return g.slice(g.reshape(stacked, -1, channels), g.ints(0), rows, 0)


def _convolve(b: Body, convolution: WaveConvolution, x: str, *weights: str, name: str) -> Value:
    kernel, strides = [convolution.weight.shape[2]], [convolution.stride]
    return b.op("Conv", x, *weights, name=name, kernel_shape=kernel, strides=strides)


def _normalised(g: Graph, spec: WaveEncoderSpec) -> tuple[Value, Value]:
    """Taps (channels, 1, kernel) and bias (channels,) of the first convolution with its norm in them."""
    convolution, norm, name = spec.convolutions[0], spec.channel_norm, "/wave/conv.0/norm"
    channels, _, kernel = convolution.weight.shape
    seen = _convolve(
        g,
        convolution,
        g.reshape(WAVE, 1, 1, -1),
        g.const(np.eye(kernel)[:, None], np.float32),
        name=f"{name}/seen",
    )
    seen = _double(g, g.reshape(seen, kernel, -1))  # (kernel, places)
    places = _double(g, g.dim(seen, 1))
    mean = g.op("ReduceMean", seen, g.ints(1), keepdims=1)
    moments = g.op("Div", g.op("MatMul", seen, g.op("Transpose", seen, perm=[1, 0]), name=name), places)
    taps = _double(g, g.reshape(g.weight(convolution.weight), channels, kernel))
    heard = g.op("MatMul", taps, mean)  # (channels, 1): the mean of each
    squares = g.op("ReduceSum", g.op("Mul", g.op("MatMul", taps, moments), taps), g.ints(1), keepdims=1)
    variance = g.op("Max", g.op("Sub", squares, g.op("Mul", heard, heard)), g.const(0, np.float64))
    deviation = g.op("Sqrt", g.op("Add", variance, g.const(CHANNEL_NORM_EPS, np.float64)))
    gain, shift = (_double(g, g.reshape(g.weight(part), channels, 1)) for part in (norm.weight, norm.bias))
    gain = g.op("Div", gain, deviation)
    bias = g.op("Sub", shift, g.op("Mul", heard, gain))
    folded = g.reshape(g.op("Mul", taps, gain), channels, 1, kernel)
    return g.op("Cast", folded, to=FLOAT), g.op("Cast", g.reshape(bias, channels), to=FLOAT)


def _double(g: Graph, x: str) -> Value:
    return g.op("Cast", x, to=TensorProto.DOUBLE)


def _ceiling(g: Graph, x: str, by: str) -> Value:
    """x / by, rounded up."""
    return g.op("Div", g.op("Add", x, g.op("Sub", by, g.ints(1))), by)
