"""What a profile costs in a checkpoint, layer by layer; no weight is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path

from ..profiles.flops import (
    DecoderDims,
    LayerRow,
    ResolvedProfile,
    kv_bytes,
    prefill_flops,
    profile_table,
    scoring_flops,
)
from ..profiles.profile import Profile
from ..runtime.decoding.answer_sizes import AnswerSizes
from ..runtime.memory.bound import ModelSizes, RequestMemory, request_memory
from .checkpoint.checkpoint import Checkpoint
from .model.families.family import load_model
from .model.fit import decoder_rows, resolve_for
from .model.spec import SpeechModelSpec

FLOAT32_BYTES = 4
REQUEST_SECONDS, REQUEST_BEAMS, REQUEST_TOKENS = (30, 120, 240), (1, 5), 64


@dataclass(frozen=True)
class RequestCost:
    """What one request takes, for a usual length of audio and number of beams."""

    audio_seconds: int
    num_beams: int
    memory: RequestMemory


@dataclass(frozen=True)
class ProfileCost:
    """A profile fitted to a model, at one length of audio. FLOPs are those of the decoder's prefill."""

    resolved: ResolvedProfile
    dims: DecoderDims
    audio_seconds: float
    span_rows: int  # that the profile reduces
    text_rows: int  # and the rows that it leaves alone
    max_positions: int
    longest_seconds: float | None  # of audio that the model hears at once; None: what its positions hold
    input_rows: int  # of those that are reduced, what the first layer sees
    layers: tuple[LayerRow, ...]
    weight_bytes: int  # as graphs of float32 read them
    requests: tuple[RequestCost, ...]  # those that the model can answer

    @property
    def prompt_rows(self) -> int:
        """All rows that enter the decoder."""
        return self.span_rows + self.text_rows

    @property
    def flops(self) -> int:
        """FLOPs of the prefill: all layers, and the head over the last row."""
        rows = [row.attention_rows for row in self.layers], [row.mlp_rows for row in self.layers]
        return prefill_flops(self.dims, *rows)

    @property
    def full_flops(self) -> int:
        """The same without reduction."""
        rows = [self.prompt_rows] * self.dims.num_layers
        return prefill_flops(self.dims, rows, rows)

    @property
    def scoring_flops(self) -> int:
        """What the column sums cost beside a fused attention; not part of `flops`."""
        if not self.resolved.profile.traits.sums.over_all_queries:
            return 0
        scored = (self.layers[place].attention_rows for place in self.resolved.computed_places)
        return sum(scoring_flops(self.dims, rows) for rows in scored)

    @property
    def kv_bytes(self) -> int:
        """Bytes of the prompt's keys and values in float32."""
        return sum(row.kv_bytes for row in self.layers)

    @property
    def full_kv_bytes(self) -> int:
        """The same without reduction."""
        return kv_bytes(self.dims, [self.prompt_rows] * self.dims.num_layers, FLOAT32_BYTES)


def profile_cost(
    checkpoint: Path, profile: Profile, audio_seconds: float | None = None, text_tokens: int | None = None
) -> ProfileCost:
    """Fit a profile to a checkpoint and count.

    Args:
        checkpoint: folder with config.json and safetensors.
        profile: what to reduce.
        audio_seconds: length of the audio; the profile's reference length if None.
        text_tokens: rows of the prompt that are text; the profile's reference if None.

    Raises:
        CheckpointError: it is not supported.
        ProfileError: the profile does not fit the model.
    """
    model = load_model(Checkpoint(checkpoint))
    resolved = resolve_for(profile, model)
    seconds = float(profile.reference_audio_seconds) if audio_seconds is None else audio_seconds
    text = profile.reference_text_tokens if text_tokens is None else text_tokens
    span, others = model.front_end.parted(decoder_rows(model, seconds), text, profile)
    dims = model.decoder.dims
    shapes = {tensor.name: tensor.shape for tensor in model.tensors}  # a tied head is there once
    return ProfileCost(
        resolved=resolved,
        dims=dims,
        audio_seconds=seconds,
        span_rows=span,
        text_rows=others,
        max_positions=model.decoder.max_positions,
        longest_seconds=model.front_end.longest_seconds,
        input_rows=resolved.token_counts(span).attention[0],
        layers=tuple(profile_table(resolved, dims, span, others, FLOAT32_BYTES)),
        weight_bytes=FLOAT32_BYTES * sum(prod(shape) for shape in shapes.values()),
        requests=tuple(_requests(model, resolved, text)),
    )


def _requests(model: SpeechModelSpec, resolved: ResolvedProfile, text_rows: int) -> Iterator[RequestCost]:
    sizes = ModelSizes(
        model.decoder.dims,
        model.front_end,
        model.tower_dims,
        in_place=True,
        weighs_rows=resolved.takes_row_weights,
    )
    longest = model.front_end.longest_seconds or max(REQUEST_SECONDS)
    heard = [seconds for seconds in REQUEST_SECONDS if seconds <= longest]
    for seconds, beams in product(heard, REQUEST_BEAMS):
        samples = seconds * model.front_end.log_mel.sample_rate
        rows = model.front_end.decoder_rows(samples) + text_rows + REQUEST_TOKENS
        if rows <= model.decoder.max_positions:
            answer = AnswerSizes(text_rows, beams, REQUEST_TOKENS)
            yield RequestCost(seconds, beams, request_memory(sizes, resolved, samples, answer))
