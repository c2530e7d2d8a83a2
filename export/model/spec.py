"""A model as the graph builders see it: sizes and weights by role, without the names of any family."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from ...profiles.flops import DecoderDims
from ...profiles.signature import TensorSpec
from ...runtime.artifact.prompt import Prompt
from ...runtime.audio.front_end import FrontEnd
from ...runtime.decoding.options import NOTHING_GIVEN, SearchOptions
from ..checkpoint.derived import Weight


@dataclass(frozen=True)
class Linear:
    """y = x W^T + b, the weight as (out, in)."""

    weight: Weight
    bias: Weight | None = None


@dataclass(frozen=True)
class LayerNorm:
    """Layer normalisation with scale and shift."""

    weight: Weight
    bias: Weight


@dataclass(frozen=True)
class DecoderLayer:
    """One pre-norm layer: grouped attention with rotary positions, SwiGLU MLP."""

    attn_norm: Weight
    query: Linear
    key: Linear
    value: Linear
    output: Linear
    mlp_norm: Weight
    gate: Linear
    up: Linear
    down: Linear


@dataclass(frozen=True)
class DecoderSpec:
    """The LLM decoder."""

    dims: DecoderDims
    norm_eps: float
    rope_theta: float
    attention_scale: float  # of the scores, before their softmax
    max_positions: int
    embedding: Weight
    layers: tuple[DecoderLayer, ...]
    final_norm: Weight
    head: Linear

    @property
    def query_scale(self) -> float:
        """The factor of the queries: the attention ops themselves scale by head_dim ** -0.5 alone."""
        return self.attention_scale / float(self.dims.head_dim**-0.5)

    @property
    def request_inputs(self) -> tuple[TensorSpec, ...]:
        """What prefill and steps take alike, fixed for a request."""
        return ()


@dataclass(frozen=True)
class EncoderLayer:
    """One pre-norm Whisper encoder layer."""

    attn_norm: LayerNorm
    query: Linear
    key: Linear
    value: Linear
    output: Linear
    mlp_norm: LayerNorm
    fc1: Linear
    fc2: Linear


@dataclass(frozen=True)
class EncoderSpec:
    """A Whisper-like audio encoder and its projector; each `FrontEnd.rows_per_token` rows are averaged."""

    num_heads: int
    hidden_size: int
    num_mel_bins: int
    norm_eps: float
    conv1: Linear  # kernel 3, stride 1
    conv2: Linear  # kernel 3, stride `LogMelConfig.frames_per_row`
    positions: Weight
    layers: tuple[EncoderLayer, ...]
    final_norm: LayerNorm
    projector: Linear
    bos_eos_rows: Weight | None = None  # (2, decoder hidden size), set around the audio rows


@dataclass(frozen=True)
class SpeechModelSpec:
    """All that a build needs to know about a checkpoint."""

    family: str
    decoder: DecoderSpec
    encoder: EncoderSpec
    front_end: FrontEnd
    prompt: Prompt | None  # None: the checkpoint has no tokenizer
    eos_token_ids: tuple[int, ...]
    generation: SearchOptions = NOTHING_GIVEN  # how to search, as far as the checkpoint says it
    notes: tuple[str, ...] = ()  # what the checkpoint holds and the model does not take, a line each

    @property
    def tensors(self) -> tuple[Weight, ...]:
        """Every tensor of encoder and decoder, in the order of their fields."""
        return tuple(tensors_of((self.encoder, self.decoder)))

    def identity(self, folder: Path) -> dict[str, Any]:
        """What a result file says of the checkpoint that was measured, as JSON takes it."""
        return {"folder": str(folder), "family": self.family, "dims": asdict(self.decoder.dims)}


def tensors_of(spec: object) -> Iterator[Weight]:
    """Every tensor of a spec, in the order of its fields."""
    if isinstance(spec, Weight):
        yield spec
    elif isinstance(spec, tuple):
        for item in spec:
            yield from tensors_of(item)
    elif is_dataclass(spec):
        for field in fields(spec):
            yield from tensors_of(getattr(spec, field.name))
