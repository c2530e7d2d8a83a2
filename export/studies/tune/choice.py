"""Which of the candidates within the budget is chosen, or why none is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ....profiles.methods import FULL
from .rounds import Tried
from .timing import Timing

MOST_FINALISTS = 4


@dataclass(frozen=True)
class Choice:
    """The candidate, or the reason why there is none."""

    tried: Tried | None
    reason: str | None = None


def finalists_of(within: Sequence[Tried]) -> list[Tried]:
    """The few that save most FLOPs, which are worth the time of timing them."""
    return sorted(within, key=lambda tried: (-_flops(tried), tried.loss.value))[:MOST_FINALISTS]


def choose(objective: str, within: Sequence[Tried], full_kv_bytes: float, timing: Timing | None) -> Choice:
    """The best by an objective, of equals the one that loses less; it must be better than `full`."""
    if not within:
        return Choice(None, "no candidate is within the budget on the search half")
    cost, of_full, saving = _cost(objective, full_kv_bytes, timing)
    best = min(within, key=lambda tried: (cost(tried), tried.loss.value))
    if cost(best) >= of_full:
        return Choice(None, f"no candidate within the budget {saving} than full at these lengths")
    return Choice(best)


def _cost(
    objective: str, full_kv_bytes: float, timing: Timing | None
) -> tuple[Callable[[Tried], float], float, str]:
    """What is to be small, what it is without reduction, and how to say that one is smaller."""
    if objective == "kv":
        return (lambda tried: tried.kv_bytes), full_kv_bytes, "keeps fewer KV bytes"
    if objective == "flops" or timing is None:
        return (lambda tried: -_flops(tried)), 0.0, "takes fewer FLOPs"
    return (lambda tried: timing.median(tried.candidate.name)), timing.median(FULL), "is faster"


def _flops(tried: Tried) -> float:
    return tried.scores.flops_reduction or 0.0
