"""The Whisper-like encoder that families share, by the names each gives its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ....checkpoint.checkpoint import Checkpoint
from ....checkpoint.derived import Derived, Weight
from ...spec import (
    Convolution,
    EncoderLayer,
    EncoderRotary,
    EncoderSpec,
    Head,
    LayerNorm,
    Linear,
    PooledHead,
    Stem,
    TimeStem,
)
from .settings import CONFIG_IRRELEVANT, Settings

NORM_EPS = 1e-5  # of every LayerNorm in Whisper
LONGEST_WAVE = 10000.0  # radians of the slowest sinusoid, its length over 2 pi


AUDIO_IRRELEVANT = (
    *(*CONFIG_IRRELEVANT, "dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop"),
    "layerdrop",
)
WHISPER_KEYS = {
    "hidden_size": "d_model",
    "num_hidden_layers": "encoder_layers",
    "num_attention_heads": "encoder_attention_heads",
    "intermediate_size": "encoder_ffn_dim",
}
"""Setting of an encoder of transformers -> as Whisper calls it; most classes take either."""


@dataclass(frozen=True)
class Names:
    """Where a family keeps the parts of its encoder; `{i}` is the layer."""

    conv1: str
    conv2: str
    positions: str | None  # whole tensor name; None: there is no such tensor
    layer: str
    query: str
    key: str
    value: str
    output: str
    attn_norm: str
    fc1: str
    fc2: str
    mlp_norm: str
    final_norm: str


WHISPER_NAMES = {
    "conv1": "conv1",
    "conv2": "conv2",
    "positions": "embed_positions.weight",
    "layer": "layers.{i}.",
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "output": "self_attn.out_proj",
    "attn_norm": "self_attn_layer_norm",
    "fc1": "fc1",
    "fc2": "fc2",
    "mlp_norm": "final_layer_norm",
    "final_norm": "layer_norm",
}
"""As transformers names them."""


def transformers_names(prefix: str, **others: str | None) -> Names:
    """Those of an encoder of transformers, whose tensors all begin with `prefix`; `others` count instead."""
    whole = ("conv1", "conv2", "positions", "layer", "final_norm")
    names: dict[str, Any] = {**WHISPER_NAMES, **others}
    return Names(**{part: name and prefix * (part in whole) + name for part, name in names.items()})


@dataclass(frozen=True)
class Sizes:
    """The sizes of the encoder."""

    num_layers: int
    num_heads: int
    hidden_size: int
    intermediate_size: int
    num_mel_bins: int
    max_positions: int
    output_size: int  # of its head


def encoder_sizes(audio: Settings, output_size: int, max_positions: int | None = None) -> Sizes:
    """The sizes of an encoder whose settings have Whisper's names, or those of other encoders."""
    for key, whisper_key in WHISPER_KEYS.items():
        audio.alias(whisper_key, key)
    audio.divides("encoder_attention_heads", "d_model")
    return Sizes(
        num_layers=audio.count("encoder_layers"),
        num_heads=audio.count("encoder_attention_heads"),
        hidden_size=audio.count("d_model"),
        intermediate_size=audio.count("encoder_ffn_dim"),
        num_mel_bins=audio.count("num_mel_bins"),
        max_positions=max_positions or audio.count("max_source_positions"),
        output_size=output_size,
    )


def pooled_head(
    checkpoint: Checkpoint, sizes: Sizes, projector: str, bos_eos_rows: str | None = None
) -> PooledHead:
    """A head that averages rows, by the names of its tensors."""
    edge_rows = checkpoint.tensor(bos_eos_rows, (2, sizes.output_size)) if bos_eos_rows else None
    return PooledHead(Reader(checkpoint).linear(projector, (sizes.output_size, sizes.hidden_size)), edge_rows)


@dataclass(frozen=True)
class Unlike:
    """What an encoder has in another way than Whisper; None and False are Whisper's own."""

    stem: Stem | None = None
    key_bias: bool = False
    positions: Weight | None = None  # computed, where no tensor has them
    rotary: EncoderRotary | None = None
    attention_rows: int | None = None


def read_encoder(
    checkpoint: Checkpoint, names: Names, sizes: Sizes, head: Head, unlike: Unlike = Unlike()
) -> EncoderSpec:
    """Collect the encoder's tensors, checking every shape."""
    read, d = Reader(checkpoint), sizes.hidden_size
    positions = unlike.positions
    if names.positions is not None:
        positions = checkpoint.tensor(names.positions, (sizes.max_positions, d))
    return EncoderSpec(
        num_heads=sizes.num_heads,
        hidden_size=d,
        num_mel_bins=sizes.num_mel_bins,
        norm_eps=NORM_EPS,
        stem=unlike.stem or _stem(read, names, sizes),
        positions=positions,
        layers=tuple(_layer(read, names, sizes, i, unlike.key_bias) for i in range(sizes.num_layers)),
        final_norm=read.norm(names.final_norm, d),
        head=head,
        rotary=unlike.rotary,
        attention_rows=unlike.attention_rows,
    )


def sinusoids(name: str, rows: int, width: int) -> Derived:
    """Whisper's table of positions, where a checkpoint leaves it out: (rows, width), sines before cosines.

    Formula: `sinusoids` of openai-whisper, in float32.
    """
    return Derived(name, (rows, width), (), lambda: _sinusoids(rows, width))


def _sinusoids(rows: int, width: int) -> npt.NDArray[np.float32]:
    half = width // 2
    step = np.float32(np.log(LONGEST_WAVE) / (half - 1))
    speeds = np.exp(-step * np.arange(half, dtype=np.float32))
    angles = np.arange(rows, dtype=np.float32)[:, None] * speeds
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def _stem(read: Reader, names: Names, sizes: Sizes) -> TimeStem:
    d = sizes.hidden_size
    conv1 = read.convolution(names.conv1, (d, sizes.num_mel_bins, 3))
    return TimeStem(conv1, read.convolution(names.conv2, (d, d, 3)))


def _layer(read: Reader, names: Names, sizes: Sizes, i: int, key_bias: bool) -> EncoderLayer:
    d, base = sizes.hidden_size, names.layer.format(i=i)
    return EncoderLayer(
        attn_norm=read.norm(base + names.attn_norm, d),
        query=read.linear(base + names.query, (d, d)),
        key=read.linear(base + names.key, (d, d), bias=key_bias),
        value=read.linear(base + names.value, (d, d)),
        output=read.linear(base + names.output, (d, d)),
        mlp_norm=read.norm(base + names.mlp_norm, d),
        fc1=read.linear(base + names.fc1, (sizes.intermediate_size, d)),
        fc2=read.linear(base + names.fc2, (d, sizes.intermediate_size)),
    )


class Reader:
    """Parts of a checkpoint by name, with the tensors that belong to each."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    def convolution(self, name: str, shape: tuple[int, ...]) -> Convolution:
        """A weight (out, in / groups, kernel or kernels) with one bias a channel."""
        parts = (
            self.checkpoint.tensor(f"{name}.weight", shape),
            self.checkpoint.tensor(f"{name}.bias", shape[:1]),
        )
        return Convolution(*parts)

    def linear(self, name: str, shape: tuple[int, ...], bias: bool = True) -> Linear:
        """A weight of any rank with one bias a row."""
        weight = self.checkpoint.tensor(f"{name}.weight", shape)
        return Linear(weight, self.checkpoint.tensor(f"{name}.bias", shape[:1]) if bias else None)

    def norm(self, name: str, size: int) -> LayerNorm:
        """Scale and shift."""
        parts = (self.checkpoint.tensor(f"{name}.{part}", (size,)) for part in ("weight", "bias"))
        return LayerNorm(*parts)
