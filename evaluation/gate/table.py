"""What the gate of an evaluation says, as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from ..evaluation import Evaluation
from ..recorded import profile_figures
from .first import first_in_words
from .gate import judged


def gate_lines(evaluation: Evaluation) -> Iterator[str]:
    """A line that says what is compared, one for what with, and one for each profile."""
    if not (found := list(judged(evaluation))):
        return
    first = evaluation.profiles[0]
    metric = first.figures[0].metric if first.figures else None
    title = metric.title if metric else "the first metric"
    yield ""
    yield f"Budget: loss of {title} against {first.profile}, in points, by the upper end of its 95 % interval"
    if metric:
        own, answers = first_in_words(metric, profile_figures(first)), len(evaluation.measured)
        yield f"{first.profile}: {own}, {first.cut_off} of {answers} answers cut off"
    for each in found:
        outcome = "pass" if each.verdict.is_accepted else "FAIL"
        yield f"{outcome}: {each.profile}: {each.verdict.reason}"
