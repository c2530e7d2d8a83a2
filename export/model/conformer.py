"""A conformer over whole clips with attention in blocks, and the Q-Former that makes audio tokens of it."""

from __future__ import annotations

from dataclasses import dataclass

from ...runtime.audio.tower_dims import EncoderDims
from ..checkpoint.derived import Weight
from .spec import Convolution, LayerNorm, Linear


@dataclass(frozen=True)
class FeedForward:
    """down(silu(up(norm(x))))."""

    norm: LayerNorm
    up: Linear
    down: Linear


@dataclass(frozen=True)
class BlockAttention:
    """Attention within a block of rows; each query adds its product with the vector of a key's distance.

    Self-attention with relative positions as P. Shaw et al. have them (arXiv:1803.02155).
    """

    norm: LayerNorm
    query: Linear
    key_value: Linear  # keys, then values
    output: Linear
    distances: Weight  # (2 * most + 1, head_dim): of keys from `most` after a query to `most` before it


@dataclass(frozen=True)
class BatchNorm:
    """(x - mean) / sqrt(variance + eps) * gain + shift of each channel, with the statistics of training."""

    gain: Weight
    shift: Weight
    mean: Weight
    variance: Weight
    eps: float


@dataclass(frozen=True)
class ConvolutionModule:
    """down(silu(batch_norm(depth(glu(up(norm(x))))))), all but the norms convolutions over time."""

    norm: LayerNorm
    up: Convolution  # (2 * inner, hidden, 1), a gated linear unit after it
    depth: Weight  # (inner, 1, kernel)
    depth_norm: BatchNorm
    down: Convolution  # (hidden, inner, 1)


@dataclass(frozen=True)
class ConformerLayer:
    """x + before / 2, + attention, + convolution, + after / 2, and the norm of it all."""

    before: FeedForward
    attention: BlockAttention
    convolution: ConvolutionModule
    after: FeedForward
    norm: LayerNorm


@dataclass(frozen=True)
class Feedback:
    """What the layers up to the middle have recognised, added to their rows: back(softmax(out(x)))."""

    after_layer: int  # how many layers come before it
    out: Linear
    back: Linear


@dataclass(frozen=True)
class CrossAttention:
    """norm(x + output(attention)); of rows among themselves, or to the rows of the encoder."""

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    norm: LayerNorm


@dataclass(frozen=True)
class QFormerLayer:
    """Attention of the queries, to the encoder where the layer has one, and norm(x + fc2(gelu(fc1(x))))."""

    own: CrossAttention
    crossing: CrossAttention | None
    fc1: Linear
    fc2: Linear
    norm: LayerNorm


@dataclass(frozen=True)
class QFormer:
    """Each `window` rows of the encoder give as many tokens as there are queries; a rest counts whole."""

    window: int
    num_heads: int
    norm_eps: float
    queries: Weight  # (1, queries, width)
    norm: LayerNorm
    layers: tuple[QFormerLayer, ...]
    projector: Linear

    @property
    def num_queries(self) -> int:
        """Audio tokens of a window."""
        return int(self.queries.shape[1])


@dataclass(frozen=True)
class ConformerSpec:
    """The encoder with its head."""

    num_heads: int
    head_dim: int
    block: int  # rows that attend to one another
    norm_eps: float
    embed: Linear  # (hidden, numbers of a frame)
    layers: tuple[ConformerLayer, ...]
    feedback: Feedback | None
    head: QFormer

    @property
    def num_mel_bins(self) -> int:
        """Numbers of one frame."""
        return int(self.embed.weight.shape[1])

    @property
    def hidden_size(self) -> int:
        """Of a row."""
        return int(self.embed.weight.shape[0])

    @property
    def fused_attentions(self) -> int:
        """None: they are in blocks, and in windows of the Q-Former."""
        return 0

    @property
    def dims(self) -> EncoderDims:
        """Its sizes: memory grows with the rows, because blocks are computed in turn or are few."""
        layer = self.layers[0]
        wide, inner = layer.before.up.weight.shape[0], layer.convolution.up.weight.shape[0]
        heads = self.num_heads * self.head_dim
        head = self.head.queries.shape[2]
        return EncoderDims(
            self.hidden_size,
            self.num_heads,
            wide,
            numbers_per_row=3 * self.hidden_size + max(4 * wide, 4 * inner, 9 * heads, 6 * head),
            fixed_numbers=self.num_heads * self.block * (9 * self.block + 8 * self.head_dim),
        )
