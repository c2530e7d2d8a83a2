"""Penalties and bans of a search, applied on the host to a row's best tokens alone.

They only ever lower scores. So if a history lowers n tokens, the best m after lowering are among the best
m + n before it, and no scores of the whole vocabulary are needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...profiles.errors import RequestError
from .options import ResolvedSearch

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

_NONE: Ids = np.empty(0, np.int64)


@dataclass(frozen=True)
class Lowered:
    """The tokens of the vocabulary whose scores one history lowers: sorted, distinct ids."""

    penalised: Ids
    banned: Ids
    penalty: float

    def __len__(self) -> int:
        return len(np.union1d(self.penalised, self.banned)) if self else 0

    def __bool__(self) -> bool:
        return bool(self.penalised.size or self.banned.size)

    def apply(self, scores: Floats, ids: Ids) -> Floats:
        """Scores (k,) of the tokens `ids` (k,), with penalties applied and -inf for a banned token.

        A penalised score is divided by the penalty if positive, multiplied if negative (Keskar et al. 2019,
        CTRL, section 4.1, in the form that transformers gave it).
        """
        if self.penalised.size:
            worse = np.where(scores < 0, scores * self.penalty, scores / self.penalty)
            scores = np.where(np.isin(ids, self.penalised), worse, scores)
        if self.banned.size:
            scores = np.where(np.isin(ids, self.banned), np.float32(-np.inf), scores)
        return scores


NOTHING_LOWERED = Lowered(_NONE, _NONE, 1.0)


class TokenRules:
    """Which tokens a history lowers under the options of a search; the prompt counts as history."""

    def __init__(self, options: ResolvedSearch, vocab_size: int, prompt_ids: Sequence[int] = ()) -> None:
        self._options = options
        self._vocab_size = vocab_size
        self._prompt: Ids = np.asarray(prompt_ids, np.int64)
        self._prompt_set: Ids = np.unique(self._prompt)
        self._suppressed: Ids = np.asarray(options.suppress_tokens, np.int64)

    def lowered_by(self, generated: tuple[int, ...]) -> Lowered:
        """What the prompt followed by the tokens `generated` lowers."""
        if self._lowers_nothing(len(generated)):
            return NOTHING_LOWERED
        tokens = np.asarray(generated, np.int64)
        banned = np.concatenate(
            [self._suppressed, self._first(tokens), self._repeated_ngrams(tokens), self._early_ends(tokens)]
        )
        return Lowered(
            self._in_vocabulary(self._penalised(tokens)),
            self._in_vocabulary(banned),
            self._options.repetition_penalty,
        )

    def candidates(self, lowered: Sequence[Lowered]) -> int:
        """How many best tokens of each row decide a step, if these histories lower some of them."""
        return min(self._vocab_size, self._options.candidates_per_row + max(map(len, lowered)))

    def _lowers_nothing(self, generated: int) -> bool:
        """Known at a glance for most requests, beside whose steps it would take long to find that out."""
        asked = self._options
        return (
            asked.repetition_penalty == 1
            and asked.no_repeat_ngram_size == 0
            and generated >= asked.min_new_tokens
            and not asked.suppress_tokens
            and (generated > 0 or not asked.begin_suppress_tokens)
        )

    def _in_vocabulary(self, ids: Ids) -> Ids:
        return np.unique(ids[(ids >= 0) & (ids < self._vocab_size)])

    def _penalised(self, tokens: Ids) -> Ids:
        if self._options.repetition_penalty == 1:
            return _NONE
        return np.concatenate([self._prompt_set, tokens])

    def _first(self, tokens: Ids) -> Ids:
        return _NONE if len(tokens) else np.asarray(self._options.begin_suppress_tokens, np.int64)

    def _early_ends(self, tokens: Ids) -> Ids:
        if len(tokens) >= self._options.min_new_tokens:
            return _NONE
        return np.asarray(self._options.end_tokens, np.int64)

    def _repeated_ngrams(self, tokens: Ids) -> Ids:
        size = self._options.no_repeat_ngram_size
        if size == 0:
            return _NONE
        return ngram_ends(np.concatenate([self._prompt, tokens]), size)


def normalised(total: np.float32, length: int, options: ResolvedSearch) -> np.float32:
    """Score of `length` tokens: Wu et al. 2016, section 7, with length ** length_penalty as the norm."""
    return total / np.float32(length**options.length_penalty)


def all_banned(options: ResolvedSearch, generated: int) -> RequestError:
    """The error that no token may come next."""
    size, least = options.no_repeat_ngram_size, options.min_new_tokens
    suppressed = ", or suppress fewer tokens" * bool(options.suppress_tokens or options.begin_suppress_tokens)
    return RequestError(
        f"every token is banned after {generated} generated ones: "
        f"raise no_repeat_ngram_size (now {size}) or lower min_new_tokens (now {least}){suppressed}"
    )


def ngram_ends(history: Ids, size: int) -> Ids:
    """Tokens that would complete an n-gram of `size` tokens which `history` (length,) already holds."""
    if len(history) < size:
        return _NONE
    ngrams = np.lib.stride_tricks.sliding_window_view(history, size)  # (length - size + 1, size)
    begun = history[len(history) - size + 1 :]
    repeated = (ngrams[:, :-1] == begun).all(axis=1)
    ends: Ids = ngrams[repeated, -1]
    return ends
