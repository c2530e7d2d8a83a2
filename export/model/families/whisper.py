"""The Whisper-like encoder that both Qwen families share, by the names each gives its parts."""

from __future__ import annotations

from dataclasses import dataclass

from ...checkpoint.checkpoint import Checkpoint
from ..spec import EncoderLayer, EncoderSpec, LayerNorm, Linear

NORM_EPS = 1e-5  # of every LayerNorm in Whisper


@dataclass(frozen=True)
class Names:
    """Where a family keeps the parts of its encoder; `{i}` is the layer."""

    conv1: str
    conv2: str
    positions: str  # whole tensor name
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
    projector: str


@dataclass(frozen=True)
class Sizes:
    """The sizes of the encoder."""

    num_layers: int
    num_heads: int
    hidden_size: int
    intermediate_size: int
    num_mel_bins: int
    max_positions: int
    output_size: int


def read_encoder(
    checkpoint: Checkpoint, names: Names, sizes: Sizes, bos_eos_rows: str | None = None
) -> EncoderSpec:
    """Collect the encoder's tensors, checking every shape."""
    read = _Reader(checkpoint)
    d, mel = sizes.hidden_size, sizes.num_mel_bins
    edge_rows = checkpoint.tensor(bos_eos_rows, (2, sizes.output_size)) if bos_eos_rows else None
    return EncoderSpec(
        num_heads=sizes.num_heads,
        hidden_size=d,
        num_mel_bins=mel,
        norm_eps=NORM_EPS,
        conv1=read.linear(names.conv1, (d, mel, 3)),
        conv2=read.linear(names.conv2, (d, d, 3)),
        positions=checkpoint.tensor(names.positions, (sizes.max_positions, d)),
        layers=tuple(_layer(read, names, sizes, i) for i in range(sizes.num_layers)),
        final_norm=read.norm(names.final_norm, d),
        projector=read.linear(names.projector, (sizes.output_size, d)),
        bos_eos_rows=edge_rows,
    )


def _layer(read: _Reader, names: Names, sizes: Sizes, i: int) -> EncoderLayer:
    d, base = sizes.hidden_size, names.layer.format(i=i)
    return EncoderLayer(
        attn_norm=read.norm(base + names.attn_norm, d),
        query=read.linear(base + names.query, (d, d)),
        key=read.linear(base + names.key, (d, d), bias=False),
        value=read.linear(base + names.value, (d, d)),
        output=read.linear(base + names.output, (d, d)),
        mlp_norm=read.norm(base + names.mlp_norm, d),
        fc1=read.linear(base + names.fc1, (sizes.intermediate_size, d)),
        fc2=read.linear(base + names.fc2, (d, sizes.intermediate_size)),
    )


class _Reader:
    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    def linear(self, name: str, shape: tuple[int, ...], bias: bool = True) -> Linear:
        """A weight of any rank with one bias a row."""
        weight = self.checkpoint.tensor(f"{name}.weight", shape)
        return Linear(weight, self.checkpoint.tensor(f"{name}.bias", shape[:1]) if bias else None)

    def norm(self, name: str, size: int) -> LayerNorm:
        """Scale and shift."""
        parts = (self.checkpoint.tensor(f"{name}.{part}", (size,)) for part in ("weight", "bias"))
        return LayerNorm(*parts)
