"""The WavLM encoder as transformers saves it: base layout, its computed weights, and the rows it makes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .....profiles.errors import CheckpointError
from ....checkpoint.checkpoint import Checkpoint, Tensor
from ....checkpoint.derived import Derived
from ...spec import Convolution, ConvolvedHead, Linear, WaveConvolution, WaveEncoderSpec, WaveLayer
from .settings import Settings
from .whisper import Reader

Floats = npt.NDArray[np.float32]

WEIGHT_NORMS = (
    ("conv.weight_g", "conv.weight_v"),
    ("conv.parametrizations.weight.original0", "conv.parametrizations.weight.original1"),
)
"""Gain and direction of the positional convolution, as torch has named them before 2.1 and since."""

LARGE = "feature_extractor.conv_layers.1.layer_norm.weight"  # in the large layout, and in no other
GATES = 2  # of each head
GATE_ROWS = 4  # of the checkpoint that are summed to one gate
UNUSED = "masked_spec_embed"  # a parameter of the training


@dataclass(frozen=True)
class WaveSizes:
    """The sizes of the encoder."""

    num_layers: int
    num_heads: int
    hidden_size: int
    intermediate_size: int
    norm_eps: float
    channels: tuple[int, ...]
    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    position_kernel: int
    position_groups: int
    num_buckets: int
    max_distance: int

    @property
    def first_samples(self) -> int:
        """Samples that one row is made of."""
        seen = 1
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            seen = (seen - 1) * stride + kernel
        return seen

    @property
    def step_samples(self) -> int:
        """Samples from one row to the next."""
        return math.prod(self.strides)


def read_wave_sizes(values: Settings) -> WaveSizes:
    """The sizes that the settings of a WavLM name; faults are kept there."""
    values.require(
        model_type="wavlm",
        conv_bias=False,
        feat_extract_norm="group",
        feat_extract_activation="gelu",
        hidden_act="gelu",
        do_stable_layer_norm=False,
        do_normalize=False,
        add_adapter=False,
    )
    values.divides("num_attention_heads", "hidden_size")
    values.divides("num_conv_pos_embedding_groups", "hidden_size")
    channels, kernels, strides = (_counts(values, f"conv_{part}") for part in ("dim", "kernel", "stride"))
    if not len(channels) == len(kernels) == len(strides):
        values.faults.append("conv_dim, conv_kernel and conv_stride differ in length")
        channels, kernels, strides = (1,), (1,), (1,)
    buckets, distance = values.count("num_buckets"), values.count("max_bucket_distance")
    if buckets % 4 or distance <= buckets // 4:
        values.faults.append(
            f"num_buckets {buckets} must be divisible by 4, max_bucket_distance {distance} above a quarter"
        )
    return WaveSizes(
        num_layers=values.count("num_hidden_layers"),
        num_heads=values.count("num_attention_heads"),
        hidden_size=values.count("hidden_size"),
        intermediate_size=values.count("intermediate_size"),
        norm_eps=values.number("layer_norm_eps"),
        channels=channels,
        kernels=kernels,
        strides=strides,
        position_kernel=values.count("num_conv_pos_embeddings"),
        position_groups=values.count("num_conv_pos_embedding_groups"),
        num_buckets=buckets,
        max_distance=distance,
    )


def read_wave_encoder(
    checkpoint: Checkpoint, prefix: str, sizes: WaveSizes, shares: str, head: ConvolvedHead, fusion: Linear
) -> WaveEncoderSpec:
    """Collect the encoder's tensors, checking every shape.

    Args:
        checkpoint: where they are.
        prefix: how all their names begin.
        sizes: of the encoder.
        shares: the tensor (layers + 1,) whose softmax weighs the hidden states.
        head: what follows.
        fusion: and what joins it with the rows of the windows.

    Raises:
        CheckpointError: a tensor is missing or of another shape, or the layout is that of WavLM large.
    """
    if prefix + LARGE in checkpoint.tensors:
        raise CheckpointError(
            f"checkpoint {checkpoint.folder}: tensor {prefix + LARGE} is part of WavLM large, another "
            "architecture; take a checkpoint with WavLM base"
        )
    read, d = Reader(checkpoint), sizes.hidden_size
    states, bias_name = (sizes.num_layers + 1,), "encoder.layers.0.attention.rel_attn_embed.weight"
    buckets = checkpoint.tensor(prefix + bias_name, (sizes.num_buckets, sizes.num_heads))
    if prefix + UNUSED in checkpoint.tensors:
        checkpoint.tensor(prefix + UNUSED, (d,))
    return WaveEncoderSpec(
        num_heads=sizes.num_heads,
        hidden_size=d,
        norm_eps=sizes.norm_eps,
        convolutions=tuple(_convolutions(checkpoint, prefix, sizes)),
        channel_norm=read.norm(f"{prefix}feature_extractor.conv_layers.0.layer_norm", sizes.channels[0]),
        feature_norm=read.norm(f"{prefix}feature_projection.layer_norm", sizes.channels[-1]),
        feature_projection=read.linear(f"{prefix}feature_projection.projection", (d, sizes.channels[-1])),
        positions=_positions(checkpoint, f"{prefix}encoder.pos_conv_embed.", sizes),
        position_groups=sizes.position_groups,
        embed_norm=read.norm(f"{prefix}encoder.layer_norm", d),
        bias_by_distance=_bias(prefix + bias_name, buckets, sizes),
        layers=tuple(_layer(read, f"{prefix}encoder.layers.{i}.", sizes) for i in range(sizes.num_layers)),
        state_shares=Derived(f"{shares}.softmax", states, (checkpoint.tensor(shares, states),), softmax),
        head=head,
        fusion=fusion,
    )


def distance_buckets(num_buckets: int, max_distance: int) -> npt.NDArray[np.int64]:
    """The row of the table for keys from `max_distance` before a query to as many after it.

    Half of the buckets are for keys after the query. Of each half, one half holds a distance each, and the
    other grows with its logarithm (T5, arXiv:1910.10683, section 2.1); in float32, as the original.
    """
    half = num_buckets // 2
    exact = half // 2
    distance = np.arange(-max_distance, max_distance + 1)
    length = np.abs(distance)
    scale = np.float32(math.log(max_distance / exact))
    grown = np.log(np.maximum(length, exact).astype(np.float32) / np.float32(exact)) / scale
    far = exact + (grown * np.float32(half - exact)).astype(np.int64)
    near = np.where(length < exact, length, np.minimum(far, half - 1))
    rows: npt.NDArray[np.int64] = near + half * (distance > 0)
    return rows


def folded_weight_norm(gain: Floats, direction: Floats) -> Floats:
    """A convolution (out, in, kernel) whose taps have the norms of `gain`, (1, 1, kernel)."""
    wide = direction.astype(np.float64)
    norm = np.sqrt((wide**2).sum((0, 1), keepdims=True))
    folded: Floats = (gain * wide / norm).astype(np.float32)
    return folded


def softmax(x: Floats) -> Floats:
    """The shares of (n,)."""
    grown = np.exp(x.astype(np.float64) - x.max())
    shares: Floats = (grown / grown.sum()).astype(np.float32)
    return shares


def _convolutions(checkpoint: Checkpoint, prefix: str, sizes: WaveSizes) -> list[WaveConvolution]:
    taken = zip((1, *sizes.channels), sizes.channels, sizes.kernels, sizes.strides, strict=False)
    return [
        WaveConvolution(
            checkpoint.tensor(f"{prefix}feature_extractor.conv_layers.{i}.conv.weight", (out, into, kernel)),
            stride,
        )
        for i, (into, out, kernel, stride) in enumerate(taken)
    ]


def _positions(checkpoint: Checkpoint, prefix: str, sizes: WaveSizes) -> Convolution:
    """The positional convolution with its weight norm folded in: of each tap, over all channels."""
    d, kernel = sizes.hidden_size, sizes.position_kernel
    known = [names for names in WEIGHT_NORMS if prefix + names[1] in checkpoint.tensors]
    gain_name, direction_name = (prefix + name for name in (known or WEIGHT_NORMS)[0])
    shape = (d, d // sizes.position_groups, kernel)
    gain, direction = checkpoint.tensor(gain_name, (1, 1, kernel)), checkpoint.tensor(direction_name, shape)
    weight = Derived(f"{prefix}conv.folded", shape, (gain, direction), folded_weight_norm)
    return Convolution(weight, checkpoint.tensor(f"{prefix}conv.bias", (d,)))


def _bias(name: str, buckets: Tensor, sizes: WaveSizes) -> Derived:
    """The table by bucket as one by distance, (heads, 2 * max_distance + 1)."""
    rows = distance_buckets(sizes.num_buckets, sizes.max_distance)
    shape = (sizes.num_heads, len(rows))
    return Derived(f"{name}.by_distance", shape, (buckets,), lambda table: table[rows].T)


def _layer(read: Reader, base: str, sizes: WaveSizes) -> WaveLayer:
    d, m, attention = sizes.hidden_size, sizes.intermediate_size, f"{base}attention."
    scale = (1, sizes.num_heads, 1, 1)
    return WaveLayer(
        query=read.linear(f"{attention}q_proj", (d, d)),
        key=read.linear(f"{attention}k_proj", (d, d)),
        value=read.linear(f"{attention}v_proj", (d, d)),
        output=read.linear(f"{attention}out_proj", (d, d)),
        gate=_gate(read, f"{attention}gru_rel_pos_linear", d // sizes.num_heads),
        gate_scale=read.checkpoint.tensor(f"{attention}gru_rel_pos_const", scale),
        attn_norm=read.norm(f"{base}layer_norm", d),
        fc1=read.linear(f"{base}feed_forward.intermediate_dense", (m, d)),
        fc2=read.linear(f"{base}feed_forward.output_dense", (d, m)),
        mlp_norm=read.norm(f"{base}final_layer_norm", d),
    )


def _gate(read: Reader, name: str, head_dim: int) -> Linear:
    """Two gates a head; the checkpoint has four rows for each, whose outputs are summed."""
    rows = GATES * GATE_ROWS
    weight = read.checkpoint.tensor(f"{name}.weight", (rows, head_dim))
    bias = read.checkpoint.tensor(f"{name}.bias", (rows,))
    return Linear(
        Derived(f"{name}.weight.summed", (GATES, head_dim), (weight,), _summed),
        Derived(f"{name}.bias.summed", (GATES,), (bias,), _summed),
    )


def _summed(rows: Floats) -> Floats:
    summed: Floats = rows.reshape(GATES, GATE_ROWS, *rows.shape[1:]).sum(1)
    return summed


def _counts(values: Settings, key: str) -> tuple[int, ...]:
    """A list of whole numbers above 0."""
    found = values.take(key)
    if isinstance(found, list) and found and all(type(each) is int and 1 <= each < 2**16 for each in found):
        return tuple(found)
    values.faults.append(f"{key} is {found!r:.80}, a list of whole numbers above 0 is expected")
    return (1,)
