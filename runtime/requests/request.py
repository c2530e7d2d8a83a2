"""A request under way: what is known of it, the search for its answer, and the result at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from ..alignment.row_map import LayerRows
from ..alignment.word_times import Looks
from ..decoding.drive import Decoder, drive, steps
from ..decoding.greedy_search import GreedySearch
from ..decoding.kv_cache import CacheFigures
from ..decoding.options import ResolvedSearch
from ..decoding.scoring_search import ForcedText
from ..decoding.search import Search
from ..latency import Stopwatch
from ..results import GenerationResult, TextHypothesis


class RequestDecoder(Decoder, Protocol):
    """The decoder of a request, and what it holds until it is closed."""

    @property
    def cache(self) -> CacheFigures:
        """Once it has started."""

    @property
    def row_sources(self) -> Mapping[int, npt.NDArray[Any]]:
        """By layer where its rows come from, if the artifact tells it; once it has started."""

    def close(self) -> None:
        """Give back what others could use; it takes no step after that."""


@dataclass(frozen=True)
class Request:
    """A checked request whose audio is encoded: the search waits for the scores of the first token."""

    profile: str
    options: ResolvedSearch  # with the end tokens of the model
    audio_seconds: float
    audio_rows: int
    text_rows: int
    rows_after: int  # of them, those after the audio
    search: Search
    decoder: RequestDecoder
    watch: Stopwatch
    profile_reason: str | None = None  # if it was chosen
    looks: Looks | None = None  # the decoder, with where its rows look; if the artifact tells it
    map_rows: Callable[[Mapping[int, npt.NDArray[Any]]], tuple[LayerRows, ...]] | None = None
    scored_text: ForcedText | None = None  # which the search scores beside its own rows

    def run(self) -> None:
        """Drive the search to its end."""
        with closing(self.decoder):
            drive(self.search, self.looks or self.decoder)
        self.watch.mark_last_token()

    def tokens(self) -> Iterator[int]:
        """Drive a greedy search, and give each token as it is found, but for the end token."""
        assert isinstance(self.search, GreedySearch), "beams are not streamed"
        with closing(self.decoder):
            for _ in steps(self.search, self.looks or self.decoder):
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
            profile_reason=self.profile_reason,
            row_map=self.map_rows(self.decoder.row_sources) if self.map_rows else None,
            scored_text=self.scored_text.score if self.scored_text else None,
        )
