"""A model as the graph builders see it: sizes and weights by role, without the names of any family."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, Protocol, TypeVar

from ...profiles.flops import DecoderDims
from ...profiles.long_context import LongContext
from ...profiles.signature import ACTIVATION, TensorSpec, WordHeads, lora_scale
from ...runtime.artifact.manifest import FoldedAdapter, FoldedPrompt
from ...runtime.artifact.prompt import Prompt
from ...runtime.audio.front_end import FrontEnd
from ...runtime.audio.tower_dims import EncoderDims, TowerDims
from ...runtime.decoding.options import NOTHING_GIVEN, SearchOptions
from ..checkpoint.derived import Weight
from ..checkpoint.quantized import QuantizedWeight

Part = TypeVar("Part")
Kind = TypeVar("Kind")


@dataclass(frozen=True)
class LoRA:
    """y += x A (B * s): the request fixes the strength s of every output channel, the same in all layers."""

    down: Weight  # A, (in, rank)
    up: Weight  # B, (rank, out)


@dataclass(frozen=True)
class Linear:
    """y = x W^T + b, the weight as (out, in)."""

    weight: Weight | QuantizedWeight
    bias: Weight | None = None
    lora: LoRA | None = None

    @property
    def plain(self) -> Linear:
        """The same without its LoRA."""
        return replace(self, lora=None)


@dataclass(frozen=True)
class Convolution:
    """Over time, or over mel bins and time: the weight as (out, in / groups, kernel or kernels)."""

    weight: Weight
    bias: Weight


@dataclass(frozen=True)
class LayerNorm:
    """Layer normalisation with scale and shift."""

    weight: Weight
    bias: Weight


@dataclass(frozen=True)
class DecoderLayer:
    """One pre-norm layer: grouped attention with rotary positions, SwiGLU MLP.

    Norms of queries and keys are RMS norms of each head before its rotation, with one weight (head_dim,).
    """

    attn_norm: Weight
    query: Linear
    key: Linear
    value: Linear
    output: Linear
    mlp_norm: Weight
    gate: Linear
    up: Linear
    down: Linear
    query_norm: Weight | None = None
    key_norm: Weight | None = None

    def with_attention(self, change: Callable[[Linear], Linear]) -> DecoderLayer:
        """The same with its four projections changed, which alone may have a LoRA."""
        return replace(
            self,
            query=change(self.query),
            key=change(self.key),
            value=change(self.value),
            output=change(self.output),
        )


@dataclass(frozen=True)
class PromptAdapter:
    """What turns the text of a request into the strength s of every LoRA, once for a request.

    Its rows h are those of the decoder's layers without LoRA and without the final norm:
    v = fc2(gelu(fc1(h))), s = clamp(sum_t softmax_t(score(v))_t v_t).
    """

    fc1: Linear
    fc2: Linear
    score: Linear  # (1, hidden size)
    least: float
    most: float


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
    long_context: LongContext | None = None
    rope_interleaved: bool = False  # whether 2i and 2i + 1 make a pair of a head, not i and i + head_dim / 2
    prompt_adapter: PromptAdapter | None = None
    folded_prompt: FoldedPrompt | None = None  # whose LoRA is part of the weights
    trained_positions: int | None = None  # of the checkpoint, where a build is asked for more
    prefix_type: str = ACTIVATION  # of the prompt's keys and values between prefill and steps
    row_maps: bool = False  # whether prefills say where the rows come from that they leave
    word_heads: WordHeads | None = None  # whose attention prefill and steps tell
    embedding_multiplier: float = 1.0  # of every row that enters the first layer, of text and of audio
    residual_multiplier: float = 1.0  # of what attention and MLP add to the rows
    logits_divisor: float = 1.0

    @property
    def without_lora(self) -> DecoderSpec:
        """The same, which no prompt changes."""
        layers = tuple(layer.with_attention(lambda linear: linear.plain) for layer in self.layers)
        return replace(self, layers=layers, prompt_adapter=None)

    @property
    def query_scale(self) -> float:
        """The factor of the queries: the attention ops themselves scale by head_dim ** -0.5 alone."""
        return self.attention_scale / float(self.dims.head_dim**-0.5)

    @property
    def request_inputs(self) -> tuple[TensorSpec, ...]:
        """What prefill and steps take alike, fixed for a request."""
        lora = (lora_scale(self.dims),) if self.prompt_adapter else ()
        return (*lora, *(self.long_context.request_inputs if self.long_context else ()))

    @property
    def step_inputs(self) -> tuple[TensorSpec, ...]:
        """What steps take, fixed for a request."""
        return (*self.request_inputs, *(self.long_context.step_inputs if self.long_context else ()))


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
class PooledHead:
    """Each `FrontEnd.rows_per_token` rows are averaged, before the encoder's final norm, and projected."""

    projector: Linear
    bos_eos_rows: Weight | None = None  # (2, decoder hidden size), set around the audio rows
    hidden: Linear | None = None  # of a projection in two layers: projector(gelu(hidden(x)))


@dataclass(frozen=True)
class StackedHead:
    """Each `FrontEnd.rows_per_token` rows stand side by side as one: projector(gelu(hidden(x)))."""

    hidden: Linear  # (its size, rows_per_token * hidden_size of the encoder)
    projector: Linear


@dataclass(frozen=True)
class ConvolvedHead:
    """Each convolution halves the rows; then x + norm(up(gelu(down(x)))), and the projector."""

    convolutions: tuple[Convolution, ...]  # (2 * out, in, 3), stride 2; a gated linear unit after each
    down: Linear
    up: Linear
    norm: LayerNorm
    norm_eps: float
    projector: Linear


Head = PooledHead | StackedHead | ConvolvedHead
"""What makes audio tokens of the rows of an encoder."""


@dataclass(frozen=True)
class TimeStem:
    """Convolutions of kernel 3 over time, GELU after each: the usual beginning of a Whisper-like encoder."""

    conv1: Convolution  # stride 1
    conv2: Convolution  # stride `LogMelConfig.frames_per_row`


@dataclass(frozen=True)
class ImageStem:
    """Convolutions of kernel 3 and stride 2 over mel bins and time, GELU after each; then a projection.

    Its input are the channels of a row, side by side, each with all bins that are left.
    """

    convolutions: tuple[Convolution, ...]
    projection: Linear


Stem = TimeStem | ImageStem
"""What makes rows of log-mel frames: of a window, or of each chunk where `LogMelConfig` has chunks."""


@dataclass(frozen=True)
class EncoderRotary:
    """Rotary positions of an encoder; pairs are halves of the first `rotated` numbers of a head."""

    theta: float
    rotated: int


@dataclass(frozen=True)
class EncoderSpec:
    """A Whisper-like encoder of windows of log-mel frames, with its head."""

    num_heads: int
    hidden_size: int
    num_mel_bins: int
    norm_eps: float
    stem: Stem
    positions: Weight | None  # added to the rows of a window, or of a chunk; None: rotary ones
    layers: tuple[EncoderLayer, ...]
    final_norm: LayerNorm
    head: Head
    rotary: EncoderRotary | None = None
    attention_rows: int | None = None  # rows that attend to one another; None: those of a window

    @property
    def fused_attentions(self) -> int:
        """Its layers whose attention a backend may have as one op: those without blocks."""
        return 0 if self.attention_rows else len(self.layers)


class ClipEncoder(Protocol):
    """An encoder of whole clips or of samples: its parts, for which `graphs/clip_encoders/` has a graph."""

    @property
    def num_mel_bins(self) -> int:
        """Numbers of one frame of its input."""

    @property
    def dims(self) -> EncoderDims:
        """Its sizes, on which memory depends."""

    @property
    def fused_attentions(self) -> int:
        """How many of its attentions are over all rows, which a backend may have as one op."""


@dataclass(frozen=True)
class WaveConvolution:
    """One convolution over samples, without bias and padding; GELU after it."""

    weight: Weight  # (out, in, kernel)
    stride: int


@dataclass(frozen=True)
class WaveLayer:
    """One post-norm layer; each query gates a bias that depends on the distance of its keys.

    With u the slice of the layer's input that belongs to a head, and a, b = sigmoid(gate(u)): the bias is
    multiplied by a * (b * gate_scale - 1) + 2 (WavLM, arXiv:2110.13900, section 3.1).
    """

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    gate: Linear  # (2, head_dim), for each head
    gate_scale: Weight  # (1, heads, 1, 1)
    attn_norm: LayerNorm
    fc1: Linear
    fc2: Linear
    mlp_norm: LayerNorm


@dataclass(frozen=True)
class WaveEncoderSpec:
    """A WavLM-like encoder of a whole wave with its head, and how its rows meet those of the windows."""

    num_heads: int
    hidden_size: int
    norm_eps: float
    convolutions: tuple[WaveConvolution, ...]
    channel_norm: LayerNorm  # after the first convolution: of each channel over all time
    feature_norm: LayerNorm
    feature_projection: Linear
    positions: Convolution  # convolution (hidden, hidden / groups, even kernel), GELU after it
    position_groups: int
    embed_norm: LayerNorm  # of the rows with positions, which are the first hidden state
    bias_by_distance: Weight  # (heads, 2 * n + 1): keys from n before a query to n after it, and all beyond
    layers: tuple[WaveLayer, ...]
    state_shares: Weight  # (layers + 1,) of each hidden state in what the head gets
    head: ConvolvedHead
    fusion: Linear  # of [row of the windows | row of the wave] to the decoder


@dataclass(frozen=True)
class SpeechModelSpec:
    """All that a build needs to know about a checkpoint."""

    family: str
    decoder: DecoderSpec
    encoder: EncoderSpec | ClipEncoder
    front_end: FrontEnd
    prompt: Prompt | None  # None: the checkpoint has no tokenizer
    eos_token_ids: tuple[int, ...]
    generation: SearchOptions = NOTHING_GIVEN  # how to search, as far as the checkpoint says it
    notes: tuple[str, ...] = ()  # what the checkpoint holds and the model does not take, a line each
    wave_encoder: WaveEncoderSpec | None = (
        None  # of a tower with two encoders; `FrontEnd.wave` counts its rows
    )
    adapters: tuple[FoldedAdapter, ...] = ()  # that are part of the weights, in the order of folding

    @property
    def tower(self) -> tuple[object, ...]:
        """The specs of the encoders, whose weights their graphs share."""
        return (self.encoder, self.wave_encoder) if self.wave_encoder else (self.encoder,)

    @property
    def tower_dims(self) -> TowerDims:
        """The sizes of the encoders."""
        wave = self.wave_encoder
        return TowerDims(
            window=_encoder_dims(self.encoder),
            wave=_encoder_dims(wave) if wave else None,
            wave_channels=wave.convolutions[-1].weight.shape[0] if wave else 0,
        )

    @property
    def tensors(self) -> tuple[Weight, ...]:
        """Every tensor of encoders and decoder, in the order of their fields."""
        return tuple(tensors_of((self.tower, self.decoder)))

    def identity(self, folder: Path) -> dict[str, Any]:
        """What a result file says of the checkpoint that was measured, as JSON takes it."""
        adapters = {"adapters": [asdict(each) for each in self.adapters]} if self.adapters else {}
        return {"folder": str(folder), "family": self.family, "dims": asdict(self.decoder.dims), **adapters}


def _encoder_dims(spec: EncoderSpec | WaveEncoderSpec | ClipEncoder) -> EncoderDims:
    if not isinstance(spec, EncoderSpec | WaveEncoderSpec):
        return spec.dims
    wide = max((layer.fc1.weight.shape[0] for layer in spec.layers), default=spec.hidden_size)
    dims = EncoderDims(spec.hidden_size, spec.num_heads, wide)
    if isinstance(spec, WaveEncoderSpec):
        return dims
    channels = spec.stem.convolutions[0].weight.shape[0] if isinstance(spec.stem, ImageStem) else 0
    return replace(dims, attention_rows=spec.attention_rows, image_channels=channels)


def tensors_of(spec: object) -> Iterator[Weight]:
    """Every tensor of a spec, in the order of its fields."""
    return parts_of(spec, Weight)


def parts_of(spec: object, kind: type[Kind] | UnionType) -> Iterator[Kind]:
    """Everything of a kind in records and tuples, in the order of their fields. A tensor has no parts."""
    if isinstance(spec, kind):
        yield spec
    elif isinstance(spec, tuple):
        for item in spec:
            yield from parts_of(item, kind)
    elif is_dataclass(spec) and not isinstance(spec, Weight):
        for field in fields(spec):
            yield from parts_of(getattr(spec, field.name), kind)


def with_parts(spec: Part, kind: type[Kind] | UnionType, change: Callable[[Kind], object]) -> Part:
    """A spec in which everything that `parts_of` finds is changed."""
    found: Any = spec
    if isinstance(spec, kind):
        found = change(spec)
    elif isinstance(spec, tuple):
        found = tuple(with_parts(item, kind, change) for item in spec)
    elif is_dataclass(spec) and not isinstance(spec, Weight):
        parts = {field.name: with_parts(getattr(spec, field.name), kind, change) for field in fields(spec)}
        found = replace(found, **parts)
    return found  # type: ignore[no-any-return]
