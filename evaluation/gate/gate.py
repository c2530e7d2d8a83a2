"""The verdict of an evaluation on each profile that has a budget: from figures alone, as files have them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...runtime.choice.acceptance import Verdict, verdict
from ...runtime.choice.figures import Loss
from ..evaluation import Evaluation
from ..figures.loss import badness
from ..metrics.metric import Metric
from ..recorded import profile_figures
from ..results.evaluation import EvaluationResult
from ..results.figure_text import NOTHING
from ..results.figures import Estimate
from .first import first_fault


@dataclass(frozen=True)
class Judged:
    """A profile, what it loses in points, and what the clips say of its budget."""

    profile: str
    loss: Loss | None  # None where there is no figure
    verdict: Verdict


def judged(found: EvaluationResult) -> Iterator[Judged]:
    """Every profile but the one that they are compared with; none where the file has no budget."""
    if found.max_loss is None:
        return
    metric, budget = found.metrics[0], found.max_loss * found.metrics[0].scale
    recordings, least = found.clips.recordings, found.least_recordings
    fault = first_fault(found.task, metric, found.profiles[0], found.clips.measured)
    for scores in found.profiles[1:]:
        figure = scores.figures.get(metric.name, NOTHING)
        if figure.delta is None:
            reason = f"there is no figure: {figure.reason or f'none of {found.profiles[0].profile}'}"
            yield Judged(scores.profile, None, Verdict("cannot tell", reason))
        else:
            loss = _loss(metric, figure.delta, budget)
            yield Judged(scores.profile, loss, verdict(loss, recordings, least, fault))


def fault_of(evaluation: Evaluation) -> str:
    """Why losses against its first profile tell nothing; empty where they do."""
    first = evaluation.profiles[0]
    if not first.figures:
        return ""
    metric, answers = first.figures[0].metric, len(evaluation.measured)
    return first_fault(evaluation.clips.task, metric, profile_figures(first), answers)


def _loss(metric: Metric, delta: Estimate, budget: float) -> Loss:
    """A difference to the first profile, in the unit of the metric, as a loss; the budget is in points."""
    ends = [badness(metric, end) for end in (delta.low, delta.high) if end is not None]
    low, high = sorted(ends) if len(ends) == 2 else (None, None)
    return Loss(badness(metric, delta.value), low, high, budget)
