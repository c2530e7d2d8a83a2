"""An encoder of whole clips whose attention has a memory beside it, and its adaptor to the decoder."""

from __future__ import annotations

from dataclasses import dataclass

from ...runtime.audio.tower_dims import EncoderDims
from ..checkpoint.derived import Weight
from .spec import LayerNorm, Linear


@dataclass(frozen=True)
class SanmLayer:
    """One pre-norm layer with ReLU; the first is no residual of attention where it makes rows wider.

    The memory adds to the attention what a convolution of each channel makes of the values, and the values
    themselves (Z. Gao et al., arXiv:2006.01713).
    """

    attn_norm: LayerNorm
    query: Linear
    key: Linear
    value: Linear
    output: Linear
    memory: Weight | None  # (hidden, 1, kernel)
    mlp_norm: LayerNorm
    fc1: Linear
    fc2: Linear
    final_norm: LayerNorm | None  # of what the layer puts out

    @property
    def adds(self) -> bool:
        """Whether the rows that come in are added to the attention."""
        return bool(self.query.weight.shape[0] == self.query.weight.shape[1])


@dataclass(frozen=True)
class Adaptor:
    """fc2(relu(fc1(x))), and layers without memory."""

    num_heads: int
    fc1: Linear
    fc2: Linear
    layers: tuple[SanmLayer, ...]


@dataclass(frozen=True)
class SanmSpec:
    """The encoder with its adaptor; its rows are the audio tokens."""

    num_heads: int
    norm_eps: float
    layers: tuple[SanmLayer, ...]
    adaptor: Adaptor
    adaptor_norm_eps: float

    @property
    def num_mel_bins(self) -> int:
        """Numbers of one frame."""
        return int(self.layers[0].query.weight.shape[1])

    @property
    def fused_attentions(self) -> int:
        """All of them."""
        return len(self.layers) + len(self.adaptor.layers)

    @property
    def dims(self) -> EncoderDims:
        """Those of the encoder or of the adaptor, whichever is wider."""
        layers = (*self.layers, *self.adaptor.layers)
        width = max(int(layer.query.weight.shape[0]) for layer in layers)
        wide = max(int(linear.weight.shape[0]) for linear in (*(it.fc1 for it in layers), self.adaptor.fc1))
        return EncoderDims(width, self.num_heads, wide)
