"""The Whisper-like encoder that families share, by the names each gives its parts."""

from __future__ import annotations

from dataclasses import dataclass

from ....checkpoint.checkpoint import Checkpoint
from ...spec import Convolution, EncoderLayer, EncoderSpec, Head, LayerNorm, Linear, PooledHead

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


def transformers_names(prefix: str) -> Names:
    """Those of an encoder of transformers, whose tensors all begin with `prefix`."""
    whole = ("conv1", "conv2", "positions", "layer", "final_norm")
    return Names(**{part: prefix * (part in whole) + name for part, name in WHISPER_NAMES.items()})


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


def pooled_head(
    checkpoint: Checkpoint, sizes: Sizes, projector: str, bos_eos_rows: str | None = None
) -> PooledHead:
    """A head that averages rows, by the names of its tensors."""
    edge_rows = checkpoint.tensor(bos_eos_rows, (2, sizes.output_size)) if bos_eos_rows else None
    return PooledHead(Reader(checkpoint).linear(projector, (sizes.output_size, sizes.hidden_size)), edge_rows)


def read_encoder(checkpoint: Checkpoint, names: Names, sizes: Sizes, head: Head) -> EncoderSpec:
    """Collect the encoder's tensors, checking every shape."""
    read = Reader(checkpoint)
    d, mel = sizes.hidden_size, sizes.num_mel_bins
    return EncoderSpec(
        num_heads=sizes.num_heads,
        hidden_size=d,
        num_mel_bins=mel,
        norm_eps=NORM_EPS,
        conv1=read.convolution(names.conv1, (d, mel, 3)),
        conv2=read.convolution(names.conv2, (d, d, 3)),
        positions=checkpoint.tensor(names.positions, (sizes.max_positions, d)),
        layers=tuple(_layer(read, names, sizes, i) for i in range(sizes.num_layers)),
        final_norm=read.norm(names.final_norm, d),
        head=head,
    )


def _layer(read: Reader, names: Names, sizes: Sizes, i: int) -> EncoderLayer:
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


class Reader:
    """Parts of a checkpoint by name, with the tensors that belong to each."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    def convolution(self, name: str, shape: tuple[int, ...]) -> Convolution:
        """A weight (out, in / groups, kernel) with one bias a channel."""
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
