"""The verdict of an evaluation on each profile that has a budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...runtime.choice.acceptance import Verdict, verdict
from ...runtime.choice.figures import Loss
from ..evaluation import Evaluation
from ..figures.loss import loss_of
from ..figures.profile_scores import ProfileScores
from ..recorded import ends, profile_figures
from .first import first_fault


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
    fault = fault_of(evaluation)
    for scores in evaluation.profiles[1:]:
        yield Judged(scores.profile, _verdict(scores, options.max_loss, evaluation, fault))


def fault_of(evaluation: Evaluation) -> str:
    """Why losses against its first profile tell nothing; empty where they do."""
    first = evaluation.profiles[0]
    if not first.figures:
        return ""
    return first_fault(first.figures[0].metric, profile_figures(first), len(evaluation.measured))


def _verdict(scores: ProfileScores, budget: float, evaluation: Evaluation, fault: str) -> Verdict:
    found = loss_of(scores.figures[0]) if scores.figures else None
    if found is None:
        reason = scores.figures[0].reason if scores.figures else "no clip was answered under every profile"
        return Verdict("cannot tell", f"there is no figure: {reason or 'none of full'}")
    low, high = ends(found.interval)
    loss, least = Loss(found.value, low, high, budget), evaluation.options.least_recordings
    return verdict(loss, evaluation.recordings, least, fault)
