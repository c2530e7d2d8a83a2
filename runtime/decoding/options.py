"""The options of one search, checked once: every fault of a request is told in one error."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real
from typing import Any

from ...profiles.errors import RequestError
from ...profiles.faults import count_fault, is_count, shown

_LEAST = {
    "num_beams": 1,
    "max_new_tokens": 1,
    "min_new_tokens": 0,
    "no_repeat_ngram_size": 0,
    "num_return_sequences": 1,
}
MOST_BEAMS = 128  # rows of a decode step, each with a KV cache; answers stop to change far below
MOST_NEW_TOKENS = 10**6  # beyond the positions of every model, which limit it exactly
_MOST = {
    "num_beams": MOST_BEAMS,
    "max_new_tokens": MOST_NEW_TOKENS,
    "no_repeat_ngram_size": MOST_NEW_TOKENS,
}
_NOT_MORE = (("min_new_tokens", "max_new_tokens"), ("num_return_sequences", "num_beams"))
_IDS = ("eos_token_ids", "suppress_tokens", "begin_suppress_tokens")
_LARGEST_ID = 2**31 - 1  # far beyond every vocabulary
_LARGEST_PENALTY = 1e6
_FLOAT32_DECADES = 30  # length ** length_penalty stays within 1e-30 … 1e30, far from float32's limits


@dataclass(frozen=True)
class SearchOptions:
    """How to search; names and meanings follow `generate` of transformers.

    What is None is left out: then the artifact decides, and where it does not, `ResolvedSearch`.
    `max_new_tokens` and `min_new_tokens` count generated tokens, an end token included. `early_stopping` is
    False (stop when the best live beam, at its present length, cannot beat the worst of `num_beams` finished
    ones), True (stop as soon as `num_beams` have finished) or "never" (as False, but at the most favourable
    length). One beam is greedy search. `eos_token_ids` end an answer: None means those of the model, an empty
    tuple means none. `suppress_tokens` are never generated, `begin_suppress_tokens` not as the first token.
    Raises RequestError, which lists every fault.
    """

    num_beams: int | None = None
    max_new_tokens: int | None = None
    min_new_tokens: int | None = None
    length_penalty: float | None = None
    early_stopping: bool | str | None = None
    eos_token_ids: tuple[int, ...] | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    num_return_sequences: int | None = None
    suppress_tokens: tuple[int, ...] | None = None
    begin_suppress_tokens: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        faults = [*_count_faults(self), *_penalty_faults(self), *_stop_faults(self)]
        if faults:
            raise RequestError("; ".join(faults))

    @property
    def given(self) -> dict[str, Any]:
        """The options that are not left out."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def check_vocabulary(self, vocab_size: int) -> None:
        """Refuse ids that are no tokens of a model.

        Raises:
            RequestError: with each option that has some.
        """
        outside = {name: [i for i in self.given.get(name, ()) if i >= vocab_size] for name in _IDS}
        faults = [
            f"{name}: {ids[0]} is not one of {vocab_size} tokens" for name, ids in outside.items() if ids
        ]
        if faults:
            raise RequestError(f"{'; '.join(faults)}; give ids of this model's tokens")

    def resolved(self, *defaults: SearchOptions) -> ResolvedSearch:
        """The search that is meant where the first of `defaults` that has an option decides what is left out.

        Raises:
            RequestError: options that exclude each other.
        """
        merged: dict[str, Any] = {}
        for each in (*reversed(defaults), self):
            merged |= each.given
        return ResolvedSearch(**merged)


@dataclass(frozen=True)
class ResolvedSearch(SearchOptions):
    """A search of which nothing is left out but the end tokens, which are those of the model where None."""

    num_beams: int = 1
    max_new_tokens: int = 256
    min_new_tokens: int = 0
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    num_return_sequences: int = 1
    suppress_tokens: tuple[int, ...] = ()
    begin_suppress_tokens: tuple[int, ...] = ()

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """The end tokens that are given; a search knows no model that could have others."""
        return () if self.eos_token_ids is None else self.eos_token_ids

    @property
    def candidates_per_row(self) -> int:
        """Best next tokens of a row that decide a step: without all end tokens, `num_beams` are left."""
        return self.num_beams + len(self.end_tokens)


def _is_finite(value: object) -> bool:
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def _count_faults(options: SearchOptions) -> Iterator[str]:
    given = options.given
    for name in (name for name in _LEAST if name in given):
        yield from count_fault(name, given[name], _LEAST[name], _MOST.get(name))
    for name, limit in _NOT_MORE:
        value, most = given.get(name), given.get(limit)
        if is_count(value, _LEAST[name]) and is_count(most, _LEAST[limit]) and value > most:
            yield f"{name} is {shown(value)} and {limit} {shown(most)}: lower the first or raise the second"


def _penalty_faults(options: SearchOptions) -> Iterator[str]:
    given = options.given
    exponent, penalty = given.get("length_penalty", 1.0), given.get("repetition_penalty", 1.0)
    if not _is_finite(exponent):
        yield f"length_penalty is {shown(exponent)}: give a finite number"
    elif not _fits_float32(exponent, given.get("max_new_tokens", 1)):
        yield f"length_penalty is {shown(exponent)}: give a number nearer to 0, for scores overflow"
    if not _is_finite(penalty) or not 1 <= penalty <= _LARGEST_PENALTY:
        yield (
            f"repetition_penalty is {shown(penalty)}: give a number from 1.0 to {_LARGEST_PENALTY:g} "
            "(a lower one would raise scores of tokens that the decoder, which returns its best ones only, "
            "may omit)"
        )


def _fits_float32(exponent: float, max_new_tokens: object) -> bool:
    """Whether lengths to this power can be told; a count that is none is another fault."""
    longest = math.log10(max(max_new_tokens, 1)) if is_count(max_new_tokens) else 0
    return abs(exponent) * longest <= _FLOAT32_DECADES


def _stop_faults(options: SearchOptions) -> Iterator[str]:
    given = options.given
    early = given.get("early_stopping", False)
    if not isinstance(early, bool) and not (isinstance(early, str) and early == "never"):
        yield f"early_stopping is {shown(early)}: give False, True or 'never'"
    for name in (name for name in _IDS if name in given):
        ids = given[name]
        if not isinstance(ids, tuple) or not all(is_count(token) and token <= _LARGEST_ID for token in ids):
            yield f"{name} is {shown(ids)}: give a tuple of token ids of at least 0"


NOTHING_GIVEN = SearchOptions()
