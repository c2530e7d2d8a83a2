"""What a search and the loop that owns it say to each other.

A search is pushed. It names the rows whose best next tokens it wants (`request`) and goes on when it is given
them (`advance`); in between it waits, without a thread and without a decoder. So one loop may serve a single
search, or gather the rows of many into one decode step, in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from ...profiles.errors import RequestError
from .scoring import Floats, Ids

FinishReason = Literal["stop", "length"]
"""Why a hypothesis ended: an end token, or max_new_tokens."""

EndReason = Literal["stop", "length", "exhausted"]
"""Why a search ended: with an end token, which with beams means that no live beam can improve the answers
any more; by max_new_tokens; or because no token may follow any live beam."""


@dataclass(frozen=True)
class Rows:
    """The rows that a search wants scored: row i is row `parents[i]` of its last request, then `tokens[i]`.

    The first request has no rows of its own. What it wants scored is the last row of the prompt.
    """

    tokens: Ids  # (rows,), or (0,) in the first request
    parents: Ids  # (rows,), or (0,) in the first request
    k: int  # best next tokens that decide the step; more of them change nothing

    @property
    def is_prompt(self) -> bool:
        """Whether this is the first request."""
        return not self.tokens.size

    @classmethod
    def after(cls, histories: Sequence[tuple[int, ...]], parents: Ids, k: int) -> Rows:
        """A row for the last token of each history; a single empty history is the prompt."""
        last = [token for history in histories for token in history[-1:]]
        return cls(np.array(last, np.int64), np.asarray(parents[: len(last)], np.int64), k)


@dataclass(frozen=True)
class TopTokens:
    """The best next tokens of every row, best first; on a tie the lower id first.

    `logits` are raw, so a log-probability is `logits - log_sum_exp[:, None]`.
    """

    logits: Floats  # (rows, k)
    ids: Ids  # (rows, k)
    log_sum_exp: Floats  # (rows,) over the whole vocabulary
    looks: Floats | None = None  # (rows, prefix rows or more) attention of the word heads, if it is told

    def check(self, rows: int, generated: int) -> None:
        """Refuse scores of other rows, or that are no numbers; a logit may be -inf: its token never comes.

        Raises:
            RequestError: a score is no number; the message says after how many `generated` tokens.
        """
        assert len(self.ids) == rows, f"{rows} rows were asked for, {len(self.ids)} came"
        if not np.isfinite(self.log_sum_exp).all() or np.isnan(self.logits).any():
            raise RequestError(
                f"the decoder's logits after {generated} generated tokens are not finite: "
                "check the audio, the weights and the precision of the artifact"
            )


@dataclass(frozen=True)
class Hypothesis:
    """One answer of a search.

    `tokens` holds no end token. `score` is the sum of log-probabilities divided by length ** length_penalty,
    where the length counts the end token. A beam search sums log-probabilities after penalties, as
    `sequences_scores` of transformers does; greedy search penalises raw logits, so there the sum is over the
    model's own log-probabilities.
    """

    tokens: tuple[int, ...]
    finish_reason: FinishReason
    score: float

    @property
    def finished(self) -> bool:
        """Whether an end token ended it, rather than max_new_tokens."""
        return self.finish_reason == "stop"


class Search(Protocol):
    """A search under way; it knows no session, no model and no cache."""

    @property
    def request(self) -> Rows | None:
        """The rows to score next; None when the search has ended."""

    def advance(self, top: TopTokens) -> None:
        """Take the scores of the requested rows, in their order.

        Raises:
            RequestError: scores that are not finite, or every token is banned. The search has ended then,
                without a hypothesis.
        """

    @property
    def hypotheses(self) -> tuple[Hypothesis, ...]:
        """The answers, best first; none before the end."""

    @property
    def end_reason(self) -> EndReason | None:
        """Why the search ended; None before the end, and after an error."""
