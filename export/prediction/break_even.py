"""For which lengths of audio a profile pays: where the full model takes longer than the reduced one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from ...runtime.tables.units import seconds

SpeedUp = Callable[[float], float]
"""Seconds of audio -> time of the full model / time of the profile."""

POINTS = 24  # of a map
SHORTEST = 1.0  # seconds of audio
PRECISION = 1.01  # to this factor a length is found


def lengths(longest: float) -> tuple[float, ...]:
    """Seconds of audio from the shortest to the longest, by a constant factor."""
    if longest <= SHORTEST:
        return (longest,)
    factor = (longest / SHORTEST) ** (1 / (POINTS - 1))
    inner = (float(f"{SHORTEST * factor**i:.3g}") for i in range(1, POINTS - 1))
    return (SHORTEST, *dict.fromkeys(length for length in inner if SHORTEST < length < longest), longest)


def pays_in_words(speed_up: SpeedUp, grid: Sequence[float]) -> str:
    """Where a profile pays on a rising grid of lengths: always, never, or from and up to which."""
    pays = [speed_up(length) > 1 for length in grid]
    if len(set(pays)) == 1:
        return "always" if pays[0] else "never"
    parts, begin = list[str](), None if not pays[0] else 0.0
    for (before, after), (low, high) in zip(pairwise(pays), pairwise(grid), strict=True):
        if before == after:
            continue
        turn = _turn(speed_up, low, high)
        if after:
            begin = turn
        else:
            parts.append(_stretch(begin or 0.0, turn))
    if pays[-1]:
        parts.append(f"from {seconds(begin or 0.0)} s on")
    return ", ".join(parts)


def _turn(speed_up: SpeedUp, low: float, high: float) -> float:
    """Where it begins or ceases to pay, between two lengths that differ in it."""
    at_low = speed_up(low) > 1
    while high / low > PRECISION:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if (speed_up(middle) > 1) == at_low else (low, middle)
    return float(f"{high:.3g}")


def _stretch(begin: float, end: float) -> str:
    return f"from {seconds(begin)} to {seconds(end)} s" if begin else f"up to {seconds(end)} s"
