"""Greedy and beam search over lists of best next tokens: it knows no session, no model and no cache.

The rules follow `generate` of transformers 5 for one request: which candidates finish, which live on, when to
stop, and float32 scores. The first step has a single row, the prompt's, and a step never holds more rows than
there are distinct live beams; ties go to the lower row, then to the lower token id.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ...profiles.errors import RequestError
from .options import SearchOptions
from .scoring import Floats, Ids, Lowered, TokenRules


@dataclass(frozen=True)
class TopTokens:
    """The best next tokens of every row, best first; on a tie the lower id first.

    `logits` are raw, so a log-probability is `logits - log_sum_exp[:, None]`.
    """

    logits: Floats  # (rows, k)
    ids: Ids  # (rows, k)
    log_sum_exp: Floats  # (rows,) over the whole vocabulary


@dataclass(frozen=True)
class Hypothesis:
    """One answer of a search.

    `tokens` holds no end token; `finished` tells that one ended it (else `max_new_tokens` did). `score` is
    the sum of log-probabilities divided by length ** length_penalty, where the length counts the end token.
    A beam search sums log-probabilities after penalties, as `sequences_scores` of transformers does; greedy
    search penalises raw logits, so there the sum is over the model's own log-probabilities.
    """

    tokens: tuple[int, ...]
    finished: bool
    score: float


class Decoder(Protocol):
    """What a search drives: a decoder that has a prompt and a row per live beam."""

    def start(self, k: int) -> TopTokens:
        """The k best first tokens after the prompt, as (1, k)."""
        ...

    def step(self, tokens: Ids, parents: Ids, k: int) -> TopTokens:
        """Make new rows, of which row i is old row `parents[i]` and then `tokens[i]`; give their k best."""
        ...


def generate(
    decoder: Decoder, options: SearchOptions, *, vocab_size: int, prompt_ids: Sequence[int] = ()
) -> list[Hypothesis]:
    """Search for the `num_return_sequences` best hypotheses, best first.

    `prompt_ids` are seen by the repetition penalty and the n-gram ban alone. There are fewer hypotheses than
    asked for only if the vocabulary and the bans allow no more. Raises RequestError if the decoder returns a
    value that is not finite, or if every token is banned.
    """
    rules = TokenRules(options, vocab_size, prompt_ids)
    run = _Run(decoder, options, rules, vocab_size)
    return [_greedy(run)] if options.num_beams == 1 else _beam_search(run)


def greedy_tokens(
    decoder: Decoder, options: SearchOptions, *, vocab_size: int, prompt_ids: Sequence[int] = ()
) -> Iterator[int]:
    """Yield the tokens of a greedy search one by one, without the end token; errors as in `generate`."""
    if options.num_beams != 1:
        raise RequestError(f"num_beams is {options.num_beams}: tokens are streamed by greedy search, give 1")
    run = _Run(decoder, options, TokenRules(options, vocab_size, prompt_ids), vocab_size)
    return (pick.token for pick in _greedy_picks(run) if pick.token not in options.eos_token_ids)


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

    def __getitem__(self, chosen: npt.NDArray[np.bool_ | np.intp] | slice) -> "_Candidates":
        return _Candidates(self.tokens[chosen], self.scores[chosen], self.parents[chosen])


class _Pick(NamedTuple):
    """A token of a greedy search and the model's log-probability of it."""

    token: int
    log_prob: np.float32


@dataclass(frozen=True)
class _Run:
    """One search under way: what all its steps share."""

    decoder: Decoder
    options: SearchOptions
    rules: TokenRules
    vocab_size: int

    def best_tokens(self, beams: _Beams) -> tuple[TopTokens, list[Lowered]]:
        """The best next tokens of every beam, so many that lowering some hides no candidate."""
        lowered = [self.rules.lowered_by(tokens) for tokens in beams.tokens]
        k = min(self.vocab_size, self.options.candidates_per_row + max(map(len, lowered)))
        top = self._ask(beams, k)
        if not np.isfinite(top.log_sum_exp).all() or np.isnan(top.logits).any():
            raise RequestError(
                f"the decoder's logits after {len(beams.tokens[0])} generated tokens are not finite: "
                "check the audio, the weights and the precision of the artifact"
            )
        return top, lowered

    def _ask(self, beams: _Beams, k: int) -> TopTokens:
        if not beams.tokens[0]:
            return self.decoder.start(k)
        last = np.array([tokens[-1] for tokens in beams.tokens], np.int64)
        return self.decoder.step(last, beams.parents, k)

    def all_banned(self, generated: int) -> RequestError:
        """The error that no token may come next."""
        size, least = self.options.no_repeat_ngram_size, self.options.min_new_tokens
        return RequestError(
            f"every token is banned after {generated} generated ones: "
            f"raise no_repeat_ngram_size (now {size}) or lower min_new_tokens (now {least})"
        )


def _root() -> _Beams:
    return _Beams([()], np.zeros(1, np.float32), np.zeros(1, np.int64))


def _greedy(run: _Run) -> Hypothesis:
    picks = list(_greedy_picks(run))
    tokens = tuple(pick.token for pick in picks)
    total = sum((pick.log_prob for pick in picks), np.float32(0))
    return _hypothesis(tokens, total, run.options)


def _greedy_picks(run: _Run) -> Iterator[_Pick]:
    """Each token that is best after penalties on its raw logit, the end token included."""
    beams = _root()
    for length in range(run.options.max_new_tokens):
        top, (lowered,) = run.best_tokens(beams)
        scores = lowered.apply(top.logits[0], top.ids[0])
        best = np.lexsort((top.ids[0], -scores))[0]
        if scores[best] == -np.inf:
            raise run.all_banned(length)
        token = int(top.ids[0, best])
        yield _Pick(token, top.logits[0, best] - top.log_sum_exp[0])
        if token in run.options.eos_token_ids:
            return
        beams = _Beams([(*beams.tokens[0], token)], beams.scores, beams.parents)


def _beam_search(run: _Run) -> list[Hypothesis]:
    options, beams, finished = run.options, _root(), list[Hypothesis]()
    for length in range(1, options.max_new_tokens + 1):
        candidates = _candidates(beams, *run.best_tokens(beams))
        ends = _ends(candidates, length, options)
        finished = _best_finished(finished, _completed(beams, candidates, ends, options), options)
        beams = _continued(beams, candidates[~ends][: options.num_beams])
        if not beams.tokens or not _can_improve(beams.scores[0], finished, length, options):
            break
    if not finished:
        raise run.all_banned(length - 1)
    return finished[: options.num_return_sequences]


def _candidates(beams: _Beams, top: TopTokens, lowered: list[Lowered]) -> _Candidates:
    """All continuations that are not banned, ordered by score, then beam, then token id."""
    log_probs = top.logits - top.log_sum_exp[:, None]
    scores = np.stack([rule.apply(*row) for rule, *row in zip(lowered, log_probs, top.ids, strict=True)])
    totals = (scores + beams.scores[:, None]).ravel()
    parents = np.repeat(np.arange(len(lowered)), top.ids.shape[1])
    order = np.lexsort((top.ids.ravel(), parents, -totals))
    return _Candidates(top.ids.ravel(), totals, parents)[order[totals[order] > -np.inf]]


def _ends(candidates: _Candidates, length: int, options: SearchOptions) -> npt.NDArray[np.bool_]:
    if length == options.max_new_tokens:
        return np.ones(len(candidates.tokens), bool)
    return np.isin(candidates.tokens, options.eos_token_ids)


def _completed(
    beams: _Beams, candidates: _Candidates, ends: npt.NDArray[np.bool_], options: SearchOptions
) -> list[Hypothesis]:
    """The hypotheses that end now; only the best `num_beams` candidates may, the others are spare."""
    leading = slice(options.num_beams)
    ended = candidates[leading][ends[leading]]
    tokens = _continued(beams, ended).tokens
    return [_hypothesis(*pair, options) for pair in zip(tokens, ended.scores, strict=True)]


def _continued(beams: _Beams, chosen: _Candidates) -> _Beams:
    pairs = zip(chosen.parents, chosen.tokens.tolist(), strict=True)
    return _Beams([(*beams.tokens[row], token) for row, token in pairs], chosen.scores, chosen.parents)


def _hypothesis(tokens: tuple[int, ...], total: np.float32, options: SearchOptions) -> Hypothesis:
    """A hypothesis of generated `tokens`, end token included, whose log-probabilities sum up to `total`."""
    finished = tokens[-1] in options.eos_token_ids
    score = float(_normalised(total, len(tokens), options))
    return Hypothesis(tokens[:-1] if finished else tokens, finished, score)


def _normalised(total: np.float32, length: int, options: SearchOptions) -> np.float32:
    """Score of `length` tokens: Wu et al. 2016, section 7, with length ** length_penalty as the norm."""
    return total / np.float32(length**options.length_penalty)


def _best_finished(old: list[Hypothesis], new: list[Hypothesis], options: SearchOptions) -> list[Hypothesis]:
    return sorted(old + new, key=lambda hypothesis: -hypothesis.score)[: options.num_beams]


def _can_improve(best: np.float32, finished: list[Hypothesis], length: int, options: SearchOptions) -> bool:
    """Whether a live beam with log-probability `best` after `length` tokens may still change the answer."""
    if len(finished) < options.num_beams:
        return True
    if options.early_stopping is True:
        return False
    if options.early_stopping == "never" and options.length_penalty > 0:
        length = options.max_new_tokens
    return bool(_normalised(best, length, options) > finished[-1].score)
