"""The options of one search, checked once: every fault of a request is told in one error."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real

from ...profiles.errors import RequestError
from ...profiles.faults import count_faults, is_count, shown

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
_LARGEST_PENALTY = 1e6
_FLOAT32_DECADES = 30  # length ** length_penalty stays within 1e-30 … 1e30, far from float32's limits


@dataclass(frozen=True)
class SearchOptions:
    """How to search; names, defaults and meanings follow `generate` of transformers.

    `max_new_tokens` and `min_new_tokens` count generated tokens, an end token included. `early_stopping` is
    False (stop when the best live beam, at its present length, cannot beat the worst of `num_beams` finished
    ones), True (stop as soon as `num_beams` have finished) or "never" (as False, but at the most favourable
    length). One beam is greedy search. `eos_token_ids` end an answer: None means those of the model, an empty
    tuple means none. Raises RequestError, which lists every fault.
    """

    num_beams: int = 1
    max_new_tokens: int = 256
    min_new_tokens: int = 0
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    eos_token_ids: tuple[int, ...] | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    num_return_sequences: int = 1

    def __post_init__(self) -> None:
        faults = [*_count_faults(self), *_penalty_faults(self), *_stop_faults(self)]
        if faults:
            raise RequestError("; ".join(faults))

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
    yield from count_faults(options, _LEAST, _MOST)
    for name, limit in _NOT_MORE:
        value, most = getattr(options, name), getattr(options, limit)
        if is_count(value, _LEAST[name]) and is_count(most, _LEAST[limit]) and value > most:
            yield f"{name} is {shown(value)} and {limit} {shown(most)}: lower the first or raise the second"


def _penalty_faults(options: SearchOptions) -> Iterator[str]:
    if not _is_finite(options.length_penalty):
        yield f"length_penalty is {shown(options.length_penalty)}: give a finite number"
    elif is_count(options.max_new_tokens) and not _fits_float32(options):
        value = shown(options.length_penalty)
        yield f"length_penalty is {value}: give a number nearer to 0, for scores overflow"
    penalty = options.repetition_penalty
    if not _is_finite(penalty) or not 1 <= penalty <= _LARGEST_PENALTY:
        yield (
            f"repetition_penalty is {shown(penalty)}: give a number from 1.0 to {_LARGEST_PENALTY:g} "
            "(a lower one would raise scores of tokens that the decoder, which returns its best ones only, "
            "may omit)"
        )


def _fits_float32(options: SearchOptions) -> bool:
    longest = math.log10(max(options.max_new_tokens, 1))
    return abs(options.length_penalty) * longest <= _FLOAT32_DECADES


def _stop_faults(options: SearchOptions) -> Iterator[str]:
    early = options.early_stopping
    if not isinstance(early, bool) and not (isinstance(early, str) and early == "never"):
        yield f"early_stopping is {shown(early)}: give False, True or 'never'"
    ids = options.end_tokens
    if not isinstance(ids, tuple) or not all(map(is_count, ids)):
        yield f"eos_token_ids is {shown(ids)}: give a tuple of token ids of at least 0"
