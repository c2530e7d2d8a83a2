"""Bisection on many ladders at once; knows no model and no clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Rung = TypeVar("Rung")


def highest_feasible(
    ladders: Sequence[Sequence[Rung]], judge: Callable[[list[Rung]], Sequence[bool]]
) -> list[Rung | None]:
    """The highest feasible rung of each ladder, None where there is none.

    Feasibility is taken to be monotone: below a feasible rung all are, above one that is not none is. Where
    it is not so, a higher feasible rung may be missed, but what is returned was always judged feasible.

    Args:
        ladders: rungs, the lowest first.
        judge: rungs of one round, one of every ladder that is still open -> whether each is feasible.
    """
    feasible, below = [0] * len(ladders), [len(ladder) for ladder in ladders]  # rungs; the answer is between
    while still_open := [i for i in range(len(ladders)) if feasible[i] < below[i]]:
        middle = {i: (feasible[i] + below[i]) // 2 for i in still_open}
        verdicts = judge([ladders[i][rung] for i, rung in middle.items()])
        for (i, rung), verdict in zip(middle.items(), verdicts, strict=True):
            if verdict:
                feasible[i] = rung + 1
            else:
                below[i] = rung
    return [ladder[count - 1] if count else None for ladder, count in zip(ladders, feasible, strict=True)]
