"""A request under way: what is known of it, the search for its answer, and the result at the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .decoding.drive import drive, steps
from .decoding.greedy_search import GreedySearch
from .decoding.options import ResolvedSearch
from .decoding.search import Search
from .decoding.session_decoder import SessionDecoder
from .latency import Stopwatch
from .results import GenerationResult, TextHypothesis


@dataclass(frozen=True)
class Request:
    """A checked request whose audio is encoded: the search waits for the scores of the first token."""

    profile: str
    options: ResolvedSearch  # with the end tokens of the model
    audio_seconds: float
    audio_rows: int
    text_rows: int
    search: Search
    decoder: SessionDecoder
    watch: Stopwatch

    def run(self) -> None:
        """Drive the search to its end."""
        drive(self.search, self.decoder)
        self.watch.mark_last_token()

    def tokens(self) -> Iterator[int]:
        """Drive a greedy search, and give each token as it is found, but for the end token."""
        assert isinstance(self.search, GreedySearch), "beams are not streamed"
        for _ in steps(self.search, self.decoder):
            self.watch.mark_last_token()
            if self.search.end_reason != "stop":
                yield self.search.tokens[-1]

    def result(self, hypotheses: tuple[TextHypothesis, ...]) -> GenerationResult:
        """The answer, once the search has ended; `hypotheses` are its own, with their texts."""
        best, lengths = hypotheses[0], self.decoder.cache.prefix_lengths
        kept = sum(lengths) - len(lengths) * self.text_rows
        latency = self.watch.latency(
            output_tokens=len(best.tokens) + best.finished,
            audio_seconds=self.audio_seconds,
            streamed=self.options.num_beams == 1,
        )
        return GenerationResult(
            text=best.text,
            hypotheses=hypotheses,
            latency=latency,
            audio_seconds=self.audio_seconds,
            profile=self.profile,
            text_rows=self.text_rows,
            audio_rows=self.audio_rows,
            prefix_lengths=lengths,
            kept_ratio=kept / (len(lengths) * self.audio_rows),
            kv_bytes=self.decoder.cache.size_bytes,
        )
