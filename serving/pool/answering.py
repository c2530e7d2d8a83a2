"""How a worker answers one request: audio is decoded, and answered whole or in segments."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from ...profiles.errors import FastAdaSPError, LongAudioError, RequestMemoryError
from ...runtime import Cancellation, GenerationResult, Segment, SpeechLM, TextHypothesis
from ...runtime.audio.read import Audio, load_audio
from ...runtime.cancellation.guard import Guard, new_guard
from ...runtime.limits import at_most, ended_by, limit_of
from ...runtime.segments.options import LONGEST_SECONDS
from .messages import Answer, Ask, Asked, Began, Ended, Event, Failed, Piece, SegmentFound, TimedText

SEGMENTS_AT_ONCE = 4  # of one request: others find room in a step, too
LEAST_LOG_PROBABILITY = -1e4  # where it is not finite, which JSON has no number for
LEAST_SECONDS = 1e-3  # to a deadline that has passed by now
Source = bytes | BinaryIO


@dataclass(frozen=True)
class AudioLimits:
    """How much audio a request may have, in seconds."""

    max_audio_seconds: float
    whole_seconds: float | None  # more is answered in segments; None: more than a window of the model

    def whole_of(self, model: SpeechLM) -> float:
        """What a model is given in one request."""
        window = model.manifest.front_end.log_mel.window_seconds
        asked = window if self.whole_seconds is None else self.whole_seconds
        return min(asked, model.max_audio_seconds, self.max_audio_seconds)


class Answering:
    """Answers requests of several threads at once."""

    def __init__(
        self,
        model: SpeechLM,
        limits: AudioLimits,
        max_batch: int,
        tell: Callable[[Event], None],
    ) -> None:
        """With a loaded model, for so many requests at once; `tell` takes what becomes of them."""
        self._model, self._limits, self._tell = model, limits, tell
        self._segments_at_once = min(SEGMENTS_AT_ONCE, max_batch)

    def answer(self, ask: Ask, source: Source, cancellation: Cancellation) -> None:
        """Answer a request, or say why there is no answer. The source is closed at the end."""
        guard = new_guard(cancellation, max(ask.until - time.monotonic(), LEAST_SECONDS))
        try:
            self._tell(Ended(ask.number, self._answer(ask, source, cancellation, guard)))
        except FastAdaSPError as error:
            self._tell(Failed(ask.number, error))
        finally:
            if not isinstance(source, bytes):
                source.close()

    def _answer(self, ask: Ask, source: Source, cancellation: Cancellation, guard: Guard) -> Answer:
        if ask.asked.form != "segments":
            try:
                return self._whole(ask, source, cancellation, guard)
            except (LongAudioError, RequestMemoryError):
                if ask.asked.form == "whole":
                    raise
        if not isinstance(source, bytes):
            source.seek(0)
        return self._segments(ask, source, cancellation, guard)

    def _whole(self, ask: Ask, source: Source, cancellation: Cancellation, guard: Guard) -> Answer:
        asked, audio = ask.asked, self._heard(ask.asked, source, guard)
        began = self._began(ask, audio.seconds)
        keywords = {**_keywords(asked, cancellation, guard), "profile": began.profile}
        if not self._in_pieces(asked):
            result = self._model.submit(audio.samples, asked.prompt, **keywords).result()
            self._tell(began)
            self._tell(Piece(ask.number, result.text))
            return _answer_of(result)
        stream = self._model.stream(audio.samples, asked.prompt, share_steps=True, **keywords)
        self._tell(began)
        for text in stream:
            self._tell(Piece(ask.number, text))
        return _answer_of(stream.result)

    def _heard(self, asked: Asked, source: Source, guard: Guard) -> Audio:
        """Decoded audio; LongAudioError: more than is answered whole, which is seen before it is decoded."""
        longest = self._limits.whole_of(self._model)
        if asked.form == "whole":
            longest = min(self._model.max_audio_seconds, self._limits.max_audio_seconds)
        limit = limit_of(ended_by(guard), at_most(longest))
        rate = self._model.manifest.front_end.log_mel.sample_rate
        return load_audio(source, rate, check_length=limit)

    def _segments(self, ask: Ask, source: Source, cancellation: Cancellation, guard: Guard) -> Answer:
        asked, found = ask.asked, list[GenerationResult]()
        began = self._began(ask, longest_of(self._model))
        tell = _behind(began, self._tell)
        text = _Joined(lambda piece: tell(Piece(ask.number, piece)))
        in_pieces = self._in_pieces(asked)
        segments = self._model.segments(
            source,
            asked.prompt,
            profile=began.profile,
            segmenting=asked.segmenting,
            at_once=self._segments_at_once,
            max_audio_seconds=self._limits.max_audio_seconds,
            tell=text.add if in_pieces else None,
            **_keywords(asked, cancellation, guard),
        )
        for segment in segments:
            found.append(segment.result)
            if not in_pieces:
                text.add(segment.text)
            text.end_segment()
            tell(SegmentFound(ask.number, self._timed(segment, asked)))
        if not found:
            self._tell(began)
        return _joined(began.profile, text.whole, found, segments.audio_seconds)

    def _in_pieces(self, asked: Asked) -> bool:
        """Whether text is told token by token, which beams would take back."""
        return asked.in_pieces and self._model.search_options(asked.search).num_beams == 1

    def _began(self, ask: Ask, seconds: float) -> Began:
        """The profile for so many seconds of audio, or of the longest segment, and why."""
        asked = ask.asked
        if asked.auto is None:
            return Began(ask.number, asked.profile, None)
        beams = self._model.search_options(asked.search).num_beams
        choice = self._model.choose_profile(asked.auto, seconds, beams)
        return Began(ask.number, choice.profile, choice.reason)

    def _timed(self, segment: Segment, asked: Asked) -> TimedText:
        best = segment.result.hypotheses[0]
        penalty = self._model.search_options(asked.search).length_penalty
        told = segment.text, best.tokens, _mean(best, penalty), segment.words or ()
        return TimedText(segment.start, segment.end, *told)


class _Joined:
    """The texts of segments as the pieces of one text, with a space between two segments."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell, self._pieces, self._gap = tell, list[str](), ""

    @property
    def whole(self) -> str:
        """All of it."""
        return "".join(self._pieces)

    def add(self, piece: str) -> None:
        """One more piece of the segment."""
        if piece:
            self._pieces.append(self._gap + piece)
            self._gap = ""
            self._tell(self._pieces[-1])

    def end_segment(self) -> None:
        """What follows is of another one."""
        self._gap = " " if self._pieces else ""


def _behind(first: Event, tell: Callable[[Event], None]) -> Callable[[Event], None]:
    """Tells events, and before any of them the first one."""
    untold = [first]

    def told(event: Event) -> None:
        while untold:
            tell(untold.pop())
        tell(event)

    return told


def longest_of(model: SpeechLM) -> float:
    """The longest segment that there may be, in seconds."""
    window = model.manifest.front_end.log_mel.window_seconds
    return min(window, LONGEST_SECONDS, model.max_audio_seconds)


def _keywords(asked: Asked, cancellation: Cancellation, guard: Guard) -> dict[str, Any]:
    left = guard.seconds_left
    return {
        "system": asked.system,
        "search": asked.search,
        "cancellation": cancellation,
        "deadline": None if left is None else max(left, LEAST_SECONDS),
    }


def _mean(best: TextHypothesis, length_penalty: float) -> float:
    """Log-probability per token: the score is their sum / length ** length_penalty."""
    length = len(best.tokens) + best.finished
    mean = best.score * length ** (length_penalty - 1) if length else best.score
    return mean if math.isfinite(mean) else LEAST_LOG_PROBABILITY


def _answer_of(result: GenerationResult) -> Answer:
    steps = result.latency.step_ms
    return Answer(
        profile=result.profile,
        text=result.text,
        finish_reason=result.finish_reason,
        audio_seconds=result.audio_seconds,
        prompt_tokens=result.text_rows + result.audio_rows,
        output_tokens=result.latency.output_tokens,
        step_seconds=None if steps is None else steps / 1e3,
    )


def _joined(profile: str, text: str, found: list[GenerationResult], audio_seconds: float) -> Answer:
    """One answer of those to the segments."""
    steps = sum(result.latency.steps for result in found)
    decoding = sum(result.latency.decode_ms for result in found) / 1e3
    return Answer(
        profile=profile,
        text=text,
        finish_reason="length" if any(result.finish_reason == "length" for result in found) else "stop",
        audio_seconds=audio_seconds,
        prompt_tokens=sum(result.text_rows + result.audio_rows for result in found),
        output_tokens=sum(result.latency.output_tokens for result in found),
        step_seconds=decoding / steps if steps else None,
    )
