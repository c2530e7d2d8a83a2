"""Whether losses against the first profile tell anything: one that hardly answers leaves little to lose."""

from __future__ import annotations

from fractions import Fraction

from ..metrics.metric import Metric
from ..metrics.tasks import WHOLE_TEXTS
from ..results.figure_text import figure_of, value_text
from ..results.figures import ProfileFigures

MOST_CUT_OFF = Fraction(1, 10)
"""Of the answers of the first profile: what others lose beyond the limit of tokens is not seen. But whatever
the limit, a few answers of a sound model may never end: up to a tenth of those in `bench/results`."""


def first_fault(task: str, metric: Metric, first: ProfileFigures, answers: int) -> str:
    """Why nothing can be told from losses against this profile, with the remedy; empty where it can.

    Args:
        task: of the clips.
        metric: the first of the task, which budgets are of.
        first: the profile that the others are compared with.
        answers: how many its figures are of.
    """
    is_empty = _is_as_empty_answers(metric, first)
    # where whole texts are compared, one that fills the limit may be right: it is too short if none is
    if first.cut_off > MOST_CUT_OFF * answers and (is_empty or task not in WHOLE_TEXTS):
        return (
            f"{first.cut_off} of {answers} answers of {first.profile} were cut off: raise --max-new-tokens, "
            "or leave out clips whose answers never end"
        )
    if is_empty:
        return (
            f"{first.profile} itself, with {first_in_words(metric, first)}, is no better than empty answers: "
            "give a prompt and clips that it can answer"
        )
    return ""


def first_in_words(metric: Metric, first: ProfileFigures) -> str:
    """The figure of a profile with the title of the metric: WER 4.18 %."""
    shown = value_text(metric, figure_of(metric, first.figures).value)
    return " ".join(part for part in (metric.title, shown, metric.sign) if part)


def _is_as_empty_answers(metric: Metric, first: ProfileFigures) -> bool:
    """Empty answers have an error rate of 100 %, or a score of 0."""
    figure = first.figures.get(metric.name)
    if figure is None or figure.value is None:
        return False
    return figure.value >= 1.0 if metric.lower_is_better else figure.value <= 0.0
