"""The verdict on each profile as a result file of `eval` holds it: from its figures and its budget alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...runtime.choice.acceptance import Outcome, verdict
from ...runtime.choice.figures import Loss
from ..figures.loss import badness
from ..metrics.metric import Metric
from ..results.evaluation import EvaluationResult
from ..results.figures import Estimate
from .first import first_fault


@dataclass(frozen=True)
class JudgedRecord:
    """A profile, what it loses in points, and whether that is within the budget."""

    profile: str
    loss: Loss | None  # None where there is no figure
    outcome: Outcome


def judged_records(found: EvaluationResult) -> Iterator[JudgedRecord]:
    """Every profile but the one that they are compared with; none where the file has no budget."""
    if found.max_loss is None:
        return
    metric, budget = found.metrics[0], found.max_loss * found.metrics[0].scale
    recordings, least = found.clips.recordings, found.least_recordings
    fault = first_fault(metric, found.profiles[0], found.clips.measured)
    for scores in found.profiles[1:]:
        figure = scores.figures.get(metric.name)
        loss = None if figure is None or figure.delta is None else _loss(metric, figure.delta, budget)
        outcome = "cannot tell" if loss is None else verdict(loss, recordings, least, fault).outcome
        yield JudgedRecord(scores.profile, loss, outcome)


def _loss(metric: Metric, delta: Estimate, budget: float) -> Loss:
    """A difference to the first profile, in the unit of the metric, as a loss; the budget is in points."""
    ends = [badness(metric, end) for end in (delta.low, delta.high) if end is not None]
    low, high = sorted(ends) if len(ends) == 2 else (None, None)
    return Loss(badness(metric, delta.value), low, high, budget)
