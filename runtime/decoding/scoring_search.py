"""A search and, beside it, a text whose probability is wanted: one more row in the same steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .scoring import Floats, Ids
from .search import EndReason, Hypothesis, Rows, Search, TopTokens


@dataclass(frozen=True)
class TextScore:
    """How probable a text is as the answer."""

    tokens: int  # an end token included
    log_probability: float  # of all of them together

    @property
    def loss(self) -> float:
        """Nats per token."""
        return -self.log_probability / self.tokens


class ForcedText:
    """A text that is fed token by token, whatever the model would say; it ends with any of the end tokens."""

    def __init__(self, spellings: Sequence[Sequence[int]], end_tokens: Sequence[int]) -> None:
        """Its tokens in each way to spell it: that with the most probable first token counts."""
        self._spellings = [tuple(tokens) for tokens in spellings]
        self._end = tuple(end_tokens)
        self._tokens: tuple[int, ...] = ()
        self._taken, self._total = 0, 0.0

    @property
    def is_done(self) -> bool:
        """Whether nothing of it is left."""
        return self._taken > 0 and self._taken == len(self._tokens) + bool(self._end)

    @property
    def taken(self) -> int:
        """How many of its tokens are counted."""
        return self._taken

    @property
    def last_token(self) -> int:
        """What stands before the next token."""
        return self._tokens[self._taken - 1]

    def take(self, logits: Floats, ids: Ids, log_sum_exp: np.float32) -> None:
        """Count the next token, from the scores (vocab_size,) of all tokens."""
        if not self._taken:
            self._tokens = max(self._spellings, key=lambda tokens: logits[ids == tokens[0]].item())
        wanted = self._end if self._taken == len(self._tokens) else self._tokens[self._taken]
        found = logits[np.isin(ids, wanted)].astype(np.float64)
        self._total += float(np.logaddexp.reduce(found) - log_sum_exp)
        self._taken += 1

    @property
    def score(self) -> TextScore:
        """Of the whole text, once it is done."""
        assert self.is_done, "the search has not ended"
        return TextScore(self._taken, self._total)


class ScoringSearch:
    """Another search, whose rows come first, and the row of a text behind them.

    The text wants the scores of the whole vocabulary; the search is given as many as it asks for.
    """

    request: Rows | None

    def __init__(self, search: Search, text: ForcedText, vocab_size: int) -> None:
        self._search, self._text, self._vocab_size = search, text, vocab_size
        self._place = 0  # of the row of the text in the last request
        self._ask()

    @property
    def hypotheses(self) -> tuple[Hypothesis, ...]:
        """Those of the search."""
        return self._search.hypotheses

    @property
    def end_reason(self) -> EndReason | None:
        """That of the search."""
        return self._search.end_reason

    def advance(self, top: TopTokens) -> None:
        """Give each its rows; errors as in `Search.advance`."""
        assert self.request is not None, "the search has ended"
        top.check(max(1, len(self.request.tokens)), self._text.taken)
        mine = self._search.request
        if mine is not None:
            rows = max(1, len(mine.tokens))
            self._search.advance(
                TopTokens(top.logits[:rows, : mine.k], top.ids[:rows, : mine.k], top.log_sum_exp[:rows])
            )
        if not self._text.is_done:
            self._text.take(*(part[self._place] for part in (top.logits, top.ids, top.log_sum_exp)))
        self._ask()

    def _ask(self) -> None:
        mine = self._search.request
        if self._text.is_done:
            self.request = mine
        elif mine is not None and mine.is_prompt:
            self.request = Rows(mine.tokens, mine.parents, self._vocab_size)
        else:
            tokens, parents = ((), ()) if mine is None else (mine.tokens, mine.parents)
            self.request = Rows(
                np.array([*tokens, self._text.last_token], np.int64),
                np.array([*parents, self._place], np.int64),
                self._vocab_size,
            )
            self._place = len(tokens)
