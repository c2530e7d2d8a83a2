"""Beam search over lists of best next tokens.

The rules follow `generate` of transformers 5 for one request: which candidates finish, which live on, when to
stop, and float32 scores. The first step has a single row, the prompt's, and a step never holds more rows than
there are distinct live beams; ties go to the lower row, then to the lower token id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .options import ResolvedSearch
from .scoring import Floats, Ids, Lowered, TokenRules, all_banned, normalised
from .search import EndReason, Hypothesis, Rows, TopTokens


class BeamSearch:
    """A beam search under way.

    There are fewer hypotheses than asked for only if the vocabulary and the bans allow no more.
    """

    def __init__(self, options: ResolvedSearch, vocab_size: int, prompt_ids: Sequence[int] = ()) -> None:
        """Ask for the first tokens; `prompt_ids` are seen by the repetition penalty and the n-gram ban."""
        self._options, self._rules = options, TokenRules(options, vocab_size, prompt_ids)
        self._finished: list[Hypothesis] = []  # the best `num_beams` so far, best first
        self.hypotheses: tuple[Hypothesis, ...] = ()
        self.end_reason: EndReason | None = None
        self.request: Rows | None = None
        self._ask(_Beams([()], np.zeros(1, np.float32), np.zeros(1, np.int64)))

    def advance(self, top: TopTokens) -> None:
        """Sort what the live beams may become into hypotheses that end now and beams that live on."""
        self.request, options, length = None, self._options, len(self._beams.tokens[0]) + 1
        top.check(len(self._beams.tokens), length - 1)
        candidates = _candidates(self._beams, top, self._lowered)
        ends = _ends(candidates, length, options)
        completed = _completed(self._beams, candidates, ends, options)
        self._finished = _best_finished(self._finished, completed, options)
        beams = _continued(self._beams, candidates[~ends][: options.num_beams])
        if reason := _reason_to_end(beams, self._finished, length, options):
            self._end(reason, length)
        else:
            self._ask(beams)

    def _ask(self, beams: _Beams) -> None:
        self._beams = beams
        self._lowered = [self._rules.lowered_by(tokens) for tokens in beams.tokens]
        self.request = Rows.after(beams.tokens, beams.parents, self._rules.candidates(self._lowered))

    def _end(self, reason: EndReason, length: int) -> None:
        if not self._finished:
            raise all_banned(self._options, length - 1)
        self.hypotheses = tuple(self._finished[: self._options.num_return_sequences])
        self.end_reason = reason


@dataclass(frozen=True)
class _Beams:
    """The live beams, best first."""

    tokens: list[tuple[int, ...]]  # generated so far, equally many in every beam
    scores: Floats  # (rows,) sums of log-probabilities
    parents: Ids  # (rows,) the row of the step before that each continues


@dataclass(frozen=True)
class _Candidates:
    """One-token continuations of the beams, best first."""

    tokens: Ids  # (n,)
    scores: Floats  # (n,)
    parents: Ids  # (n,) the beam that each continues

    def __getitem__(self, chosen: npt.NDArray[np.bool_ | np.intp] | slice) -> _Candidates:
        return _Candidates(self.tokens[chosen], self.scores[chosen], self.parents[chosen])


def _candidates(beams: _Beams, top: TopTokens, lowered: list[Lowered]) -> _Candidates:
    """All continuations that are not banned, ordered by score, then beam, then token id."""
    log_probs = top.logits - top.log_sum_exp[:, None]
    scores = np.stack([rule.apply(*row) for rule, *row in zip(lowered, log_probs, top.ids, strict=True)])
    totals = (scores + beams.scores[:, None]).ravel()
    parents = np.repeat(np.arange(len(lowered)), top.ids.shape[1])
    order = np.lexsort((top.ids.ravel(), parents, -totals))
    return _Candidates(top.ids.ravel(), totals, parents)[order[totals[order] > -np.inf]]


def _ends(candidates: _Candidates, length: int, options: ResolvedSearch) -> npt.NDArray[np.bool_]:
    if length == options.max_new_tokens:
        return np.ones(len(candidates.tokens), bool)
    return np.isin(candidates.tokens, options.end_tokens)


def _completed(
    beams: _Beams, candidates: _Candidates, ends: npt.NDArray[np.bool_], options: ResolvedSearch
) -> list[Hypothesis]:
    """The hypotheses that end now; only the best `num_beams` candidates may, the others are spare."""
    leading = slice(options.num_beams)
    ended = candidates[leading][ends[leading]]
    tokens = _continued(beams, ended).tokens
    return [_hypothesis(*pair, options) for pair in zip(tokens, ended.scores, strict=True)]


def _continued(beams: _Beams, chosen: _Candidates) -> _Beams:
    pairs = zip(chosen.parents, chosen.tokens.tolist(), strict=True)
    return _Beams([(*beams.tokens[row], token) for row, token in pairs], chosen.scores, chosen.parents)


def _hypothesis(tokens: tuple[int, ...], total: np.float32, options: ResolvedSearch) -> Hypothesis:
    """A hypothesis of generated `tokens`, end token included, whose log-probabilities sum up to `total`."""
    score = float(normalised(total, len(tokens), options))
    if tokens[-1] in options.end_tokens:
        return Hypothesis(tokens[:-1], "stop", score)
    return Hypothesis(tokens, "length", score)


def _best_finished(old: list[Hypothesis], new: list[Hypothesis], options: ResolvedSearch) -> list[Hypothesis]:
    return sorted(old + new, key=lambda hypothesis: -hypothesis.score)[: options.num_beams]


def _reason_to_end(
    beams: _Beams, finished: list[Hypothesis], length: int, options: ResolvedSearch
) -> EndReason | None:
    if length == options.max_new_tokens:
        return "length"
    if not beams.tokens:
        return "exhausted"
    return None if _can_improve(beams.scores[0], finished, length, options) else "stop"


def _can_improve(best: np.float32, finished: list[Hypothesis], length: int, options: ResolvedSearch) -> bool:
    """Whether a live beam with log-probability `best` after `length` tokens may still change the answer."""
    if len(finished) < options.num_beams:
        return True
    if options.early_stopping is True:
        return False
    if options.early_stopping == "never" and options.length_penalty > 0:
        length = options.max_new_tokens
    return bool(normalised(best, length, options) > finished[-1].score)
