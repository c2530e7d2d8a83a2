"""The verdict of an evaluation on each profile that has a budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...runtime.choice.acceptance import Verdict, verdict
from ...runtime.choice.figures import Loss
from ..evaluation import Evaluation
from ..figures.loss import loss_of
from ..figures.profile_scores import ProfileScores
from ..recorded import ends


@dataclass(frozen=True)
class Judged:
    """A profile, and what the clips say of its budget."""

    profile: str
    verdict: Verdict


def judged(evaluation: Evaluation) -> Iterator[Judged]:
    """Every profile but the one that they are compared with; none where there is no budget."""
    options = evaluation.options
    if options.max_loss is None:
        return
    for scores in evaluation.profiles[1:]:
        yield Judged(scores.profile, _verdict(scores, options.max_loss, evaluation))


def _verdict(scores: ProfileScores, budget: float, evaluation: Evaluation) -> Verdict:
    found = loss_of(scores.figures[0]) if scores.figures else None
    if found is None:
        reason = scores.figures[0].reason if scores.figures else "no clip was answered under every profile"
        return Verdict("cannot tell", f"there is no figure: {reason or 'none of full'}")
    low, high = ends(found.interval)
    return verdict(
        Loss(found.value, low, high, budget), evaluation.recordings, evaluation.options.least_recordings
    )
