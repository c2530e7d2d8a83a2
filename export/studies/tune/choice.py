"""Which of the candidates within the budget is chosen, or why none is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from ....profiles.keys import KEPT
from ....profiles.methods import FULL
from .rounds import Tried
from .timing import Timing

MOST_FINALISTS = 4
KV_TOLERANCE = 0.01  # of the bytes of `full`


@dataclass(frozen=True)
class Choice:
    """The candidate, or the reason why there is none."""

    tried: Tried | None
    reason: str | None = None


def finalists_of(within: Sequence[Tried]) -> list[Tried]:
    """The few of the highest levels, which are worth the time of timing them."""
    return sorted(within, key=lambda tried: (_by_level(tried), *_among_equals(tried)))[:MOST_FINALISTS]


def choose(objective: str, within: Sequence[Tried], full_kv_bytes: float, timing: Timing | None) -> Choice:
    """The best by an objective of those that are better than `full`, of equals the one that loses less."""
    if not within:
        return Choice(None, "no candidate is within the budget on the search half")
    cost, of_full, saving = _cost(objective, full_kv_bytes, timing)
    better = [tried for tried in within if cost(tried) < of_full]
    if not better:
        return Choice(None, f"no candidate within the budget {saving} than full at these lengths")
    rank = _rank(objective, better, full_kv_bytes, cost)
    return Choice(min(better, key=lambda tried: (rank(tried), *_among_equals(tried), cost(tried))))


def _cost(
    objective: str, full_kv_bytes: float, timing: Timing | None
) -> tuple[Callable[[Tried], float], float, str]:
    """What is to be small, what it is without reduction, and how to say that one is smaller."""
    if objective == "kv":
        return (lambda tried: tried.kv_bytes), full_kv_bytes, "keeps fewer KV bytes"
    if objective == "flops" or timing is None:
        return (lambda tried: -(tried.scores.flops_reduction or 0.0)), 0.0, "takes fewer FLOPs"
    return (lambda tried: timing.median(tried.candidate.name)), timing.median(FULL), "is faster"


def _rank(
    objective: str, better: Sequence[Tried], full_kv_bytes: float, cost: Callable[[Tried], float]
) -> Callable[[Tried], float | Fraction]:
    """The cost, but for differences that are there only because rows are whole: those make equals."""
    if objective == "flops":
        return _by_level
    if objective == "kv":
        few = min(map(cost, better)) + KV_TOLERANCE * full_kv_bytes
        return lambda tried: max(cost(tried), few)
    return cost


def _by_level(tried: Tried) -> Fraction:
    """Small for a high level."""
    return -tried.candidate.level


def _among_equals(tried: Tried) -> tuple[float, bool]:
    """What is to be small among equals: the loss, then being compact, for kept won more comparisons."""
    return tried.loss.value, tried.candidate.profile.positions != KEPT
