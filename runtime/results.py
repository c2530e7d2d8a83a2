"""What a request is answered with."""

from __future__ import annotations

from dataclasses import dataclass

from .alignment.row_map import LayerRows
from .alignment.word_times import Word
from .decoding.scoring_search import TextScore
from .decoding.search import FinishReason, Hypothesis
from .latency import Latency


@dataclass(frozen=True)
class TextHypothesis(Hypothesis):
    """One answer of a search, with its text."""

    text: str


@dataclass(frozen=True)
class GenerationResult:
    """The answer to one request."""

    text: str  # of the best hypothesis; empty where the artifact has no tokenizer
    hypotheses: tuple[TextHypothesis, ...]  # best first
    latency: Latency
    audio_seconds: float
    profile: str
    text_rows: int  # rows of the prompt that are text
    audio_rows: int  # rows of the prompt that are audio, before any is removed
    prefix_lengths: tuple[int, ...]  # rows of the prompt that each layer keeps
    kept_ratio: float  # audio rows in the KV caches, summed over the layers / (layers * audio rows)
    kv_bytes: int  # prefix, shared by all beams, plus the pool at its largest
    profile_reason: str | None = None  # why the profile was chosen, if it was not named
    words: tuple[Word, ...] | None = None  # of `text`; of artifacts built with word heads
    row_map: tuple[LayerRows, ...] | None = None  # seconds of each row; of artifacts built with row maps
    scored_text: TextScore | None = None  # of the text that was given to be scored

    @property
    def finish_reason(self) -> FinishReason:
        """Why the best hypothesis ended: "stop", an end token, or "length", max_new_tokens."""
        return self.hypotheses[0].finish_reason
