"""One search and one decoder: the loop of a request that is served alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from .beam_search import BeamSearch
from .greedy_search import GreedySearch
from .options import SearchOptions
from .scoring import Ids
from .search import Hypothesis, Search, TopTokens


class Decoder(Protocol):
    """What scores the rows of one search: a decoder that has a prompt and a row per live beam."""

    def start(self, k: int) -> TopTokens:
        """The k best first tokens after the prompt, as (1, k)."""
        ...

    def step(self, tokens: Ids, parents: Ids, k: int) -> TopTokens:
        """Make new rows, of which row i is old row `parents[i]` and then `tokens[i]`; give their k best."""
        ...


def new_search(options: SearchOptions, vocab_size: int, prompt_ids: Sequence[int] = ()) -> Search:
    """The search that the options ask for: one beam is greedy search.

    What they leave out is as in `ResolvedSearch`. `prompt_ids` are seen by the repetition penalty and the
    n-gram ban alone.
    """
    resolved = options.resolved()
    kind = GreedySearch if resolved.num_beams == 1 else BeamSearch
    return kind(resolved, vocab_size, prompt_ids)


def steps(search: Search, decoder: Decoder) -> Iterator[None]:
    """Drive a search to its end, and pause after each step: to read what is there, or to go no further."""
    while (rows := search.request) is not None:
        if rows.is_prompt:
            search.advance(decoder.start(rows.k))
        else:
            search.advance(decoder.step(rows.tokens, rows.parents, rows.k))
        yield


def drive(search: Search, decoder: Decoder) -> tuple[Hypothesis, ...]:
    """Drive a search to its end; its hypotheses, best first. Errors as in `Search.advance`."""
    for _ in steps(search, decoder):
        pass
    return search.hypotheses
