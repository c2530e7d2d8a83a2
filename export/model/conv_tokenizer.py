"""Tokenizers of causal convolutions over samples, as encoders, and their projections to the decoder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from ...runtime.audio.tower_dims import EncoderDims
from ..checkpoint.derived import Weight
from .spec import Convolution, Linear


@dataclass(frozen=True)
class ConvBlock:
    """x + scale * mixer(norm(x)), then x + mlp_scale * fc2(gelu(fc1(mlp_norm(x)))); norms are RMS norms.

    The mixer is a causal convolution of each channel (Z. Liu et al., arXiv:2201.03545, over time).
    """

    norm: Weight
    mixer: Convolution  # (channels, 1, kernel)
    scale: Weight  # (channels,)
    mlp_norm: Weight
    fc1: Linear
    fc2: Linear
    mlp_scale: Weight

    @property
    def reach(self) -> int:
        """Rows before a row that it depends on."""
        return int(self.mixer.weight.shape[2]) - 1


@dataclass(frozen=True)
class ConvStage:
    """A causal convolution to more channels and fewer rows, then blocks."""

    convolution: Convolution
    stride: int
    blocks: tuple[ConvBlock, ...]


@dataclass(frozen=True)
class ConvTokenizer:
    """Stages, a causal convolution to the latent numbers of a row, and fc2(norm(fc1(x))) of these."""

    stages: tuple[ConvStage, ...]  # the first one begins with the samples
    head: Convolution  # stride 1
    norm_eps: float
    fc1: Linear
    norm: Weight
    fc2: Linear

    @property
    def context_samples(self) -> int:
        """Samples before those of a row that it depends on: what each convolution adds, in samples."""
        return sum(rows * step for rows, step in self._reaches())

    def _reaches(self) -> Iterator[tuple[int, int]]:
        """Of each convolution: the rows before a row that it depends on, and the samples of one."""
        step = 1
        for stage in self.stages:
            yield int(stage.convolution.weight.shape[2]) - stage.stride, step
            step *= stage.stride
            yield from ((block.reach, step) for block in stage.blocks)
        yield int(self.head.weight.shape[2]) - 1, step

    @property
    def numbers_per_row(self) -> int:
        """Of the widest stage, for each row that it ends in: its rows, and in and out of its GELU."""
        found, step = [], 1
        for stage in self.stages:
            step *= stage.stride
            found.append((6 * _channels(stage) + 2 * _widest(stage)) / step)
        return round(step * max(found))


def _channels(stage: ConvStage) -> int:
    return int(stage.convolution.weight.shape[0])


def _widest(stage: ConvStage) -> int:
    return max((int(block.fc1.weight.shape[0]) for block in stage.blocks), default=_channels(stage))


@dataclass(frozen=True)
class ConvTokenizersSpec:
    """Tokenizers that hear the same samples, and whose rows are added."""

    tokenizers: tuple[ConvTokenizer, ...]
    projector_eps: float  # of the norm between the two layers of each projection

    @property
    def num_mel_bins(self) -> int:
        """Samples of a row."""
        return prod(stage.stride for stage in self.tokenizers[0].stages)

    @property
    def context_rows(self) -> int:
        """Rows before a window that the rows of the window depend on."""
        return max(-(-each.context_samples // self.num_mel_bins) for each in self.tokenizers)

    @property
    def fused_attentions(self) -> int:
        """None: there is no attention."""
        return 0

    @property
    def dims(self) -> EncoderDims:
        """Those of the last stage; memory grows with the rows of a window alone."""
        last = self.tokenizers[0].stages[-1]
        numbers = max(each.numbers_per_row for each in self.tokenizers) + 2 * self.num_mel_bins
        return EncoderDims(_channels(last), 1, _widest(last), numbers_per_row=numbers)
