"""The lines of an output: what a clip was answered with, or why it was not. Names of fields are stable."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ...profiles.codec import to_json
from ...profiles.errors import FastAdaSPError
from ...runtime import GenerationResult, TextHypothesis
from ...runtime.latency import Latency
from ..clips.clip import Clip


@dataclass(frozen=True)
class Alternative:
    """One answer of the search."""

    text: str
    score: float | None  # None where it is not finite
    finish_reason: str  # "stop", or "length" for one cut by max_new_tokens
    output_tokens: int


@dataclass(frozen=True)
class Times:
    """Milliseconds of a request from its start, beside others at the same time; no answer depends on them."""

    request_ms: float
    first_token_ms: float | None  # None with beams
    encoder_ms: float
    prefill_ms: float
    decode_ms: float


@dataclass(frozen=True)
class Transcript:
    """A clip with its answer."""

    id: str
    audio: str  # as the clip list writes it; in a folder, the path from there
    prompt: str  # empty for that of the artifact
    profile: str
    text: str  # of the best hypothesis
    score: float | None
    finish_reason: str
    audio_seconds: float
    output_tokens: int
    hypotheses: tuple[Alternative, ...]  # best first, as many as num_return_sequences
    latency: Times

    def to_json(self) -> dict[str, Any]:
        """As JSON takes it."""
        content: dict[str, Any] = to_json(self)
        return content


@dataclass(frozen=True)
class Failed:
    """A clip without an answer."""

    id: str
    audio: str
    prompt: str
    profile: str
    error: str  # the reason, in one line
    error_type: str  # the class of `fastadasp.profiles.errors`

    def to_json(self) -> dict[str, Any]:
        """As JSON takes it."""
        content: dict[str, Any] = to_json(self)
        return content


Found = Transcript | Failed


def transcript(clip: Clip, result: GenerationResult) -> Transcript:
    """The line of an answered clip."""
    hypotheses = tuple(map(_alternative, result.hypotheses))
    best = hypotheses[0]
    return Transcript(
        id=clip.id,
        audio=clip.audio,
        prompt=clip.prompt,
        profile=result.profile,
        text=result.text,
        score=best.score,
        finish_reason=best.finish_reason,
        audio_seconds=result.audio_seconds,
        output_tokens=best.output_tokens,
        hypotheses=hypotheses,
        latency=_times(result.latency),
    )


def failed(clip: Clip, profile: str, error: FastAdaSPError) -> Failed:
    """The line of a clip that could not be answered."""
    return Failed(
        clip.id, clip.audio, clip.prompt, profile, " ".join(str(error).splitlines()), type(error).__name__
    )


def _alternative(found: TextHypothesis) -> Alternative:
    score = found.score if math.isfinite(found.score) else None
    return Alternative(found.text, score, found.finish_reason, len(found.tokens) + found.finished)


def _times(latency: Latency) -> Times:
    return Times(
        request_ms=latency.request_ms,
        first_token_ms=latency.first_token_ms,
        encoder_ms=latency.stages["encoder"],
        prefill_ms=latency.prefill_ms,
        decode_ms=latency.decode_ms,
    )
