"""How much worse a profile is than the first one: one number whichever way a metric points."""

from __future__ import annotations

from dataclasses import dataclass

from ..metrics.metric import Metric
from .bootstrap import Interval
from .scores import Figure


@dataclass(frozen=True)
class Loss:
    """Above 0 is worse: points of a percentage or of BLEU, or the plain score of CIDEr."""

    value: float
    interval: Interval | None = None


def loss_of(figure: Figure) -> Loss | None:
    """The loss against the first profile; None where there is no figure, and for the first profile itself."""
    if figure.delta is None:
        return None
    metric, found = figure.metric, figure.delta.interval
    ends = () if found is None else sorted((badness(metric, found.low), badness(metric, found.high)))
    return Loss(badness(metric, figure.delta.value), Interval(*ends) if ends else None)


def badness(metric: Metric, value: float) -> float:
    """A value such that less is better, on the scale of a loss."""
    return metric.scale * (value if metric.lower_is_better else -value) + 0.0  # and never -0.0
