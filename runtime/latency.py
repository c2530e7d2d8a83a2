"""Latency of one request, stage by stage, and what follows from it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from .cancellation.guard import Guard

STAGES = ("audio", "mel", "encoder", "prompt", "prefill", "step", "beam", "detokenize")

Item = TypeVar("Item")


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one request. `None` where a figure has no meaning for it."""

    request_ms: float  # last result - request start
    first_token_ms: float | None  # request start to the first token; None with beams
    prefill_ms: float  # decoder input ready to scores of the first token
    decode_ms: float  # first token to last token
    stages: dict[str, float]  # by the names of STAGES
    output_tokens: int  # of the returned hypothesis
    steps: int  # decode steps run
    audio_seconds: float

    @property
    def step_ms(self) -> float | None:
        """decode latency / decode steps."""
        return self.decode_ms / self.steps if self.steps else None

    @property
    def rtf(self) -> float | None:
        """Real-time factor: request latency / audio seconds."""
        return self.request_ms / 1e3 / self.audio_seconds if self.audio_seconds else None

    @property
    def rtfx(self) -> float | None:
        """Inverse real-time factor: audio seconds / request latency."""
        return self.audio_seconds / (self.request_ms / 1e3) if self.request_ms else None

    @property
    def tokens_per_second(self) -> float | None:
        """Throughput: tokens of the returned hypothesis / decode latency."""
        return self.output_tokens / (self.decode_ms / 1e3) if self.decode_ms else None


class Stopwatch:
    """Adds up the stages of one request, which may end early between them and within."""

    def __init__(self, guard: Guard | None = None) -> None:
        """Begin; a `guard` says when the request is to end."""
        self.guard = guard
        self.start = time.perf_counter()
        self.stages = dict.fromkeys(STAGES, 0.0)
        self.first_token: float | None = None
        self.last_token: float | None = None
        self.steps = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; stages of one name add up. RequestCancelled: the request is to end."""
        begin = time.perf_counter()
        entered = self.guard.enter(name) if self.guard else None
        try:
            yield
        finally:
            if self.guard and entered:
                self.guard.leave(entered)
            self.stages[name] += (time.perf_counter() - begin) * 1e3

    def each(self, name: str, items: Iterator[Item]) -> Iterator[Item]:
        """Items that are made one at a time: making each is a stage."""
        while True:
            with self.stage(name):
                item = next(items, None)
            if item is None:
                return
            yield item

    def mark_first_token(self) -> None:
        """The scores of the first token are there."""
        self.first_token = self.last_token = time.perf_counter()

    def mark_last_token(self) -> None:
        """The search has ended."""
        self.last_token = time.perf_counter()

    def latency(self, *, output_tokens: int, audio_seconds: float, streamed: bool) -> Latency:
        """The record of the finished request."""
        assert self.first_token is not None
        assert self.last_token is not None
        decode = (self.last_token - self.first_token) * 1e3
        stages = {**self.stages, "beam": max(0.0, decode - self.stages["step"])}
        return Latency(
            request_ms=(time.perf_counter() - self.start) * 1e3,
            first_token_ms=(self.first_token - self.start) * 1e3 if streamed else None,
            prefill_ms=self.stages["prefill"],
            decode_ms=decode,
            stages=stages,
            output_tokens=output_tokens,
            steps=self.steps,
            audio_seconds=audio_seconds,
        )
