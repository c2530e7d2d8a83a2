"""What a profile is chosen for: a budget of time, or one of accuracy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real

from ...profiles.errors import RequestError
from ...profiles.faults import shown

AUTO = "auto"
"""What people give in the place of a profile to have one chosen."""


@dataclass(frozen=True)
class Auto:
    """Given in the place of a profile: have one chosen for the length of the audio, by one of two budgets.

    Raises:
        RequestError: no budget, both, or one that is no number in its range.
    """

    latency_budget: float | None = None  # seconds of prefill and decode; the most accurate profile within it
    accuracy_budget: float | None = None  # points that may be lost; the fastest profile within it

    def __post_init__(self) -> None:
        if faults := list(self._faults()):
            raise RequestError("; ".join(faults))

    def _faults(self) -> Iterator[str]:
        given = [name for name in ("latency_budget", "accuracy_budget") if getattr(self, name) is not None]
        if len(given) != 1:
            found = "both are given" if given else "none is given"
            yield f"latency_budget and accuracy_budget: give one of them for profile {AUTO}; {found}"
        if self.latency_budget is not None and not _is_number(self.latency_budget, 0, above=True):
            yield f"latency_budget is {shown(self.latency_budget)}: give seconds above 0"
        if self.accuracy_budget is not None and not _is_number(self.accuracy_budget, 0):
            yield f"accuracy_budget is {shown(self.accuracy_budget)}: give a number of points from 0 on"


def _is_number(value: object, least: float, *, above: bool = False) -> bool:
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    number = float(value)
    return math.isfinite(number) and (number > least or (number == least and not above))
