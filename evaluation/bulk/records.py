"""The lines of an output: what a clip was answered with, or why it was not. Names of fields are stable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...profiles.codec import to_json
from ...profiles.errors import FastAdaSPError
from ...profiles.faults import encodable
from ...runtime import GenerationResult, Segment, TextHypothesis
from ...runtime.alignment.word_times import Word
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
    """Milliseconds of a request from its start, beside others at the same time; no answer depends on them.

    Of segments, `request_ms` is that of the whole clip, the stages are sums, and there is no first token.
    """

    request_ms: float
    first_token_ms: float | None  # None with beams
    encoder_ms: float
    prefill_ms: float
    decode_ms: float


@dataclass(frozen=True)
class Stretch:
    """The answer about one stretch of speech in a clip that was cut."""

    start: float  # seconds from the beginning of the clip
    end: float
    text: str
    score: float | None
    finish_reason: str
    output_tokens: int
    hypotheses: tuple[Alternative, ...]
    words: tuple[Word, ...] | None = None  # as in `Transcript`


@dataclass(frozen=True)
class Transcript:
    """A clip with its answer."""

    id: str
    audio: str  # as the clip list writes it; in a folder, the path from there
    prompt: str  # empty for that of the artifact
    profile: str
    text: str  # of the best hypothesis, or of all segments
    score: float | None  # None of segments, which have their own
    finish_reason: str  # of segments "length" if one of them was cut
    audio_seconds: float
    output_tokens: int
    hypotheses: tuple[Alternative, ...]  # best first, as many as num_return_sequences; none of segments
    latency: Times
    segments: tuple[Stretch, ...] | None = None  # of a clip that was cut, in order of time
    profile_reason: str | None = None  # why the profile was chosen, if it was not named
    words: tuple[Word, ...] | None = None  # of artifacts with word heads; segments have their own

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
        profile_reason=result.profile_reason,
        words=result.words,
    )


def transcript_of(
    clip: Clip,
    profile: str,
    reason: str | None,
    segments: Sequence[Segment],
    audio_seconds: float,
    request_ms: float,
) -> Transcript:
    """The line of a clip that was cut, with all its segments; a profile that was chosen has a reason."""
    stretches = tuple(map(_stretch, segments))
    each = [_times(segment.result.latency) for segment in segments]
    return Transcript(
        id=clip.id,
        audio=clip.audio,
        prompt=clip.prompt,
        profile=profile,
        text=" ".join(stretch.text for stretch in stretches if stretch.text),
        score=None,
        finish_reason="length" if any(each.finish_reason == "length" for each in stretches) else "stop",
        audio_seconds=audio_seconds,
        output_tokens=sum(stretch.output_tokens for stretch in stretches),
        hypotheses=(),
        latency=Times(
            request_ms=request_ms,
            first_token_ms=None,
            encoder_ms=sum(times.encoder_ms for times in each),
            prefill_ms=sum(times.prefill_ms for times in each),
            decode_ms=sum(times.decode_ms for times in each),
        ),
        segments=stretches,
        profile_reason=reason,
    )


def _stretch(segment: Segment) -> Stretch:
    hypotheses = tuple(map(_alternative, segment.result.hypotheses))
    best = hypotheses[0]
    return Stretch(
        *(segment.start, segment.end, segment.text, best.score, best.finish_reason, best.output_tokens),
        hypotheses=hypotheses,
        words=segment.words,
    )


def failed(clip: Clip, profile: str, error: FastAdaSPError) -> Failed:
    """The line of a clip that could not be answered; the reason may name a path that is not UTF-8."""
    reason = encodable(" ".join(str(error).splitlines()))
    return Failed(clip.id, clip.audio, clip.prompt, profile, reason, type(error).__name__)


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
