"""Whether a profile is within a budget of accuracy: over it, within it, or more than the clips can tell.

The upper end of the paired 95 % interval is compared, not the figure itself: of a profile that is as good as
its budget allows, half of all clip lists would find the figure below it. A figure above the budget is over it
whatever the interval says; but no figure tells anything where what it is compared with hardly answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from .figures import Accuracy, Loss

LEAST_RECORDINGS = 2  # one recording does not vary, so it has no interval
ENOUGH_RECORDINGS = 30  # fewer hardly stand for all there could be: an interval of them is rough
ROUNDING = 1e-9  # points: what is the budget but for rounding is within it
UNDEFINED = "some draws of the recordings leave the metric without a value"
Outcome = Literal["within", "over", "cannot tell"]


@dataclass(frozen=True)
class Verdict:
    """Whether a profile is accepted, and why."""

    outcome: Outcome
    reason: str

    @property
    def is_accepted(self) -> bool:
        """Whether the clips show that the profile is within its budget."""
        return self.outcome == "within"


def verdict(loss: Loss, recordings: int, least_recordings: int, fault: str = "") -> Verdict:
    """Judge a loss that was measured on clips of so many recordings; `fault`: why no loss tells anything."""
    measured, budget = loss_in_words(loss), f"{loss.budget:g}"
    unknown = f"{measured} of a budget of {budget}: cannot tell"
    if fault:
        return Verdict("cannot tell", f"{unknown}, for {fault}")
    if not is_within(loss.value, loss.budget):
        return Verdict("over", f"{measured} is over the budget of {budget}")
    if recordings < (least := max(least_recordings, LEAST_RECORDINGS)):
        few = f"with so few recordings, {recordings} of at least {least}"
        lower = ", or lower --least-recordings" * (recordings >= LEAST_RECORDINGS)
        return Verdict("cannot tell", f"{unknown} {few}: give more{lower}")
    if loss.high is None:
        return Verdict("cannot tell", f"{unknown} without an interval, for {UNDEFINED}")
    if not is_within(loss.high, loss.budget):
        return Verdict("cannot tell", f"{unknown}, for the interval goes beyond it")
    return Verdict("within", f"{measured} is within the budget of {budget}, up to the end of its interval")


def is_within(points: float, budget: float) -> bool:
    """Whether so much is no more than a budget."""
    return points <= budget + ROUNDING


def loss_in_words(loss: Loss) -> str:
    """A loss with its interval: +0.52 (95 %: -0.10 to +1.21)."""
    if loss.low is None or loss.high is None:
        return f"{loss.value:+.2f} (no interval)"
    return f"{loss.value:+.2f} (95 %: {loss.low:+.2f} to {loss.high:+.2f})"


def verdicts(accuracy: Accuracy) -> Iterator[tuple[str, Verdict]]:
    """Every profile that was measured, with its verdict."""
    for profile, loss in accuracy.losses.items():
        yield profile, verdict(loss, accuracy.clips.recordings, accuracy.least_recordings)


def accepted(accuracy: Accuracy) -> dict[str, Loss]:
    """What the accepted profiles lose; the one that they are compared with loses nothing."""
    nothing = Loss(0.0, 0.0, 0.0, 0.0)
    found = {profile: accuracy.losses[profile] for profile, it in verdicts(accuracy) if it.is_accepted}
    return {accuracy.against: nothing, **found}
