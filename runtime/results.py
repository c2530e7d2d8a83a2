"""What a request is answered with."""

from __future__ import annotations

from dataclasses import dataclass

from .latency import Latency


@dataclass(frozen=True)
class TextHypothesis:
    """One answer, as text."""

    text: str
    tokens: tuple[int, ...]  # without the end token
    finished: bool  # ended by an end token rather than by max_new_tokens
    score: float  # sum of log-probabilities / length ** length_penalty


@dataclass(frozen=True)
class GenerationResult:
    """The answer to one request."""

    text: str  # of the best hypothesis; empty where the artifact has no tokenizer
    hypotheses: tuple[TextHypothesis, ...]  # best first
    latency: Latency
    audio_seconds: float
    profile: str
    text_rows: int  # rows of the prompt that are text
    prefix_lengths: tuple[int, ...]  # rows of the prompt that each layer keeps
    kept_ratio: float  # audio rows in the KV caches, summed over the layers / (layers * audio rows)
    kv_bytes: int  # prefix, shared by all beams, plus the pool at its largest
