"""Answers in the formats that OpenAI's clients know."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from starlette.responses import JSONResponse, PlainTextResponse, Response

from ...runtime.segments.subtitles import SUBTITLES
from ..pool.messages import Answer, TimedText
from .transcription import Transcription

FRAMES_PER_SECOND = 100  # of the field `seek`


def transcript(
    answer: Answer, segments: Sequence[TimedText], form: Transcription, headers: dict[str, str]
) -> Response:
    """A whole transcript, as its form asks for it."""
    match form.response_format:
        case "json":
            content = {"text": answer.text, "usage": seconds_used(answer)}
            return JSONResponse(content, headers=headers)
        case "text":
            return PlainTextResponse(f"{answer.text}\n", headers=headers)
        case "verbose_json":
            return JSONResponse(_verbose(answer, segments, form), headers=headers)
    written = SUBTITLES[form.response_format].written(segments)
    return PlainTextResponse("".join(written), headers=headers)


def seconds_used(answer: Answer) -> dict[str, Any]:
    """What was heard."""
    return {"type": "duration", "seconds": round(answer.audio_seconds, 3)}


def tokens_used(answer: Answer) -> dict[str, Any]:
    """The same in tokens."""
    total = answer.prompt_tokens + answer.output_tokens
    used = {"input_tokens": answer.prompt_tokens, "output_tokens": answer.output_tokens}
    return {"type": "tokens", **used, "total_tokens": total}


def segment_event(number: int, segment: TimedText) -> dict[str, Any]:
    """A segment in a stream."""
    return {
        "type": "transcript.text.segment",
        "id": str(number),
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
    }


def _verbose(answer: Answer, segments: Sequence[TimedText], form: Transcription) -> dict[str, Any]:
    found: dict[str, Any] = {
        "task": form.task,
        "language": form.language or "",
        "duration": round(answer.audio_seconds, 3),
        "text": answer.text,
        "usage": seconds_used(answer),
    }
    if "segment" in form.granularities:
        found["segments"] = [_segment(number, segment) for number, segment in enumerate(segments)]
    if "word" in form.granularities:
        found["words"] = [word for segment in segments for word in _words(segment)]
    return found


def _segment(number: int, segment: TimedText) -> dict[str, Any]:
    """All fields that clients expect; the last one is not known here, as only speech is answered."""
    return {
        "id": number,
        "seek": round(segment.start * FRAMES_PER_SECOND),
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "tokens": list(segment.tokens),
        "temperature": 0.0,
        "avg_logprob": segment.mean_log_probability,
        "compression_ratio": _compression(segment.text),
        "no_speech_prob": 0.0,
    }


def _words(segment: TimedText) -> Iterator[dict[str, Any]]:
    """A word ends where the next one begins, the last one with its segment: nothing tells when it does."""
    ends = (*(word.start for word in segment.words), segment.end)[1:]
    for word, end in zip(segment.words, ends, strict=True):
        times = {"start": round(word.start, 3), "end": round(max(word.start, end), 3)}
        yield {"word": word.text, **times, "confident": word.confident}


def _compression(text: str) -> float:
    """Bytes of the text / bytes of it compressed: above 2.4 it mostly repeats itself."""
    content = text.encode("utf-8")
    return len(content) / len(zlib.compress(content)) if content else 1.0
