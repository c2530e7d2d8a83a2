"""The encoder of Granite Speech: the tensors of its conformer, and of the Q-Former of BLIP-2 behind it."""

from __future__ import annotations

from ....checkpoint.checkpoint import Checkpoint
from ...conformer import (
    BatchNorm,
    BlockAttention,
    ConformerLayer,
    ConformerSpec,
    ConvolutionModule,
    CrossAttention,
    Feedback,
    FeedForward,
    QFormer,
    QFormerLayer,
)
from ..parts.whisper import NORM_EPS, Reader
from .granite_settings import Sizes, TowerSettings

BATCH_NORM_EPS = 1e-5  # no setting changes it


def read_tower(checkpoint: Checkpoint, settings: TowerSettings, output_size: int) -> ConformerSpec:
    """Collect the tensors, checking every shape; `output_size` is that of the decoder's rows."""
    read, sizes, values = Reader(checkpoint), settings.sizes, settings.encoder
    d, heard = sizes.hidden_size, values.count("output_dim")
    count = values.count("num_layers")
    feedback = Feedback(
        count // 2, read.linear("encoder.out", (heard, d)), read.linear("encoder.out_mid", (d, heard))
    )
    return ConformerSpec(
        num_heads=sizes.num_heads,
        head_dim=sizes.head_dim,
        block=sizes.block,
        norm_eps=NORM_EPS,
        embed=read.linear("encoder.input_linear", (d, values.count("input_dim"))),
        layers=tuple(_layer(read, sizes, f"encoder.layers.{i}") for i in range(count)),
        feedback=feedback if count > 1 else None,
        head=_q_former(read, settings, output_size),
    )


def _layer(read: Reader, sizes: Sizes, base: str) -> ConformerLayer:
    return ConformerLayer(
        before=_feed_forward(read, sizes, f"{base}.ff1"),
        attention=_attention(read, sizes, f"{base}.attn"),
        convolution=_convolution(read, sizes, f"{base}.conv"),
        after=_feed_forward(read, sizes, f"{base}.ff2"),
        norm=read.norm(f"{base}.post_norm", sizes.hidden_size),
    )


def _feed_forward(read: Reader, sizes: Sizes, base: str) -> FeedForward:
    d, wide = sizes.hidden_size, sizes.wide
    up, down = read.linear(f"{base}.up_proj", (wide, d)), read.linear(f"{base}.down_proj", (d, wide))
    return FeedForward(read.norm(f"{base}.pre_norm", d), up, down)


def _attention(read: Reader, sizes: Sizes, base: str) -> BlockAttention:
    d, heads = sizes.hidden_size, sizes.num_heads * sizes.head_dim
    return BlockAttention(
        norm=read.norm(f"{base}.pre_norm", d),
        query=read.linear(f"{base}.to_q", (heads, d), bias=False),
        key_value=read.linear(f"{base}.to_kv", (2 * heads, d), bias=False),
        output=read.linear(f"{base}.to_out", (d, heads)),
        distances=read.checkpoint.tensor(f"{base}.rel_pos_emb.weight", (sizes.distances, sizes.head_dim)),
    )


def _convolution(read: Reader, sizes: Sizes, base: str) -> ConvolutionModule:
    d, inner = sizes.hidden_size, sizes.inner
    return ConvolutionModule(
        norm=read.norm(f"{base}.norm", d),
        up=read.convolution(f"{base}.up_conv", (2 * inner, d, 1)),
        depth=read.checkpoint.tensor(f"{base}.depth_conv.conv.weight", (inner, 1, sizes.kernel)),
        depth_norm=_batch_norm(read, f"{base}.batch_norm", inner),
        down=read.convolution(f"{base}.down_conv", (d, inner, 1)),
    )


def _batch_norm(read: Reader, base: str, channels: int) -> BatchNorm:
    names = ("weight", "bias", "running_mean", "running_var")
    gain, shift, mean, variance = (read.checkpoint.tensor(f"{base}.{name}", (channels,)) for name in names)
    return BatchNorm(gain, shift, mean, variance, BATCH_NORM_EPS)


def _q_former(read: Reader, settings: TowerSettings, output_size: int) -> QFormer:
    values, whole = settings.projector, settings.whole
    width, window = values.count("hidden_size"), whole.count("window_size")
    queries = window // whole.count("downsample_rate")
    every = values.count("cross_attention_frequency")
    base = "projector.qformer"
    return QFormer(
        window=window,
        num_heads=values.count("num_attention_heads"),
        norm_eps=values.number("layer_norm_eps"),
        queries=read.checkpoint.tensor("projector.query", (1, queries, width)),
        norm=read.norm(f"{base}.layernorm", width),
        layers=tuple(
            _q_former_layer(read, settings, f"{base}.encoder.layer.{i}", crosses=i % every == 0)
            for i in range(values.count("num_hidden_layers"))
        ),
        projector=read.linear("projector.linear", (output_size, width)),
    )


def _q_former_layer(read: Reader, settings: TowerSettings, base: str, *, crosses: bool) -> QFormerLayer:
    width, wide = settings.projector.count("hidden_size"), settings.projector.count("intermediate_size")
    heard = settings.sizes.hidden_size
    return QFormerLayer(
        own=_cross(read, f"{base}.attention", width, width),
        crossing=_cross(read, f"{base}.crossattention", width, heard) if crosses else None,
        fc1=read.linear(f"{base}.intermediate_query.dense", (wide, width)),
        fc2=read.linear(f"{base}.output_query.dense", (width, wide)),
        norm=read.norm(f"{base}.output_query.LayerNorm", width),
    )


def _cross(read: Reader, base: str, width: int, heard: int) -> CrossAttention:
    return CrossAttention(
        query=read.linear(f"{base}.attention.query", (width, width)),
        key=read.linear(f"{base}.attention.key", (width, heard)),
        value=read.linear(f"{base}.attention.value", (width, heard)),
        output=read.linear(f"{base}.output.dense", (width, width)),
        norm=read.norm(f"{base}.output.LayerNorm", width),
    )
