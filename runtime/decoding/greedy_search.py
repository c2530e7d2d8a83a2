"""Greedy search: the best token after penalties on its raw logit, step by step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .options import ResolvedSearch
from .scoring import TokenRules, all_banned, normalised
from .search import EndReason, FinishReason, Hypothesis, Rows, TopTokens


class GreedySearch:
    """A greedy search under way; `tokens` are those found so far, without an end token."""

    def __init__(self, options: ResolvedSearch, vocab_size: int, prompt_ids: Sequence[int] = ()) -> None:
        """Ask for the first token; `prompt_ids` are seen by the repetition penalty and the n-gram ban."""
        self._options, self._rules = options, TokenRules(options, vocab_size, prompt_ids)
        self._total = np.float32(0)  # of the log-probabilities
        self.tokens: tuple[int, ...] = ()
        self.hypotheses: tuple[Hypothesis, ...] = ()
        self.end_reason: EndReason | None = None
        self.request: Rows | None = None
        self._ask()

    def advance(self, top: TopTokens) -> None:
        """Add the best token; on a tie the one with the lower id, which comes first."""
        self.request = None
        top.check(1, len(self.tokens))
        scores, best = top.logits[0], 0
        if self._lowered:
            scores = self._lowered.apply(scores, top.ids[0])
            best = np.lexsort((top.ids[0], -scores))[0]
        if scores[best] == -np.inf:
            raise all_banned(self._options, len(self.tokens))
        self._total += top.logits[0, best] - top.log_sum_exp[0]
        self._append(int(top.ids[0, best]))

    def _append(self, token: int) -> None:
        if token in self._options.end_tokens:
            return self._end("stop", len(self.tokens) + 1)
        self.tokens += (token,)
        if len(self.tokens) == self._options.max_new_tokens:
            return self._end("length", len(self.tokens))
        return self._ask()

    def _ask(self) -> None:
        self._lowered = self._rules.lowered_by(self.tokens)
        k = self._rules.candidates([self._lowered])
        self.request = Rows.after([self.tokens], np.zeros(1, np.int64), k)

    def _end(self, reason: FinishReason, length: int) -> None:
        score = float(normalised(self._total, length, self._options))
        self.hypotheses, self.end_reason = (Hypothesis(self.tokens, reason, score),), reason
