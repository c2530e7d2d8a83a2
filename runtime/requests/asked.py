"""What one request asks for, as the caller gave it: only its search is resolved already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ..audio.encoder import EncodedAudio
from ..audio.read import Source
from ..cancellation.guard import Guard
from ..choice.target import Auto
from ..decoding.options import ResolvedSearch
from ..latency import Stopwatch
from ..prompt import PromptIds, RawPrompt

AnyPrompt: TypeAlias = str | RawPrompt | PromptIds | None


@dataclass(frozen=True, eq=False)
class Asked:
    """A request before any of its work: `SpeechLM.generate` says what the fields mean."""

    audio: Source | EncodedAudio
    prompt: AnyPrompt
    system: str | None
    profile: str | Auto | None  # None: the default
    source_rate: int | None  # Hz
    search: ResolvedSearch
    watch: Stopwatch  # began with the request; its guard says what may end it
    scored_text: str | None = None  # whose probability is wanted beside the answer
    shares: bool = False  # steps with others, on which its scores then depend in their last bits

    @property
    def guard(self) -> Guard:
        """What may end it, of a request that others than its caller may end."""
        assert self.watch.guard is not None, "it has a cancellation of its own"
        return self.watch.guard
