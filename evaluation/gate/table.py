"""What the gate of an evaluation says, as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from ..evaluation import Evaluation
from .gate import judged


def gate_lines(evaluation: Evaluation) -> Iterator[str]:
    """A line that says what is compared, and one for each profile."""
    if not (found := list(judged(evaluation))):
        return
    metric, first = evaluation.profiles[0].figures, evaluation.profiles[0].profile
    title = metric[0].metric.title if metric else "the first metric"
    yield ""
    yield f"Budget: loss of {title} against {first}, in points, by the upper end of its 95 % interval"
    for each in found:
        outcome = "pass" if each.verdict.is_accepted else "FAIL"
        yield f"{outcome}: {each.profile}: {each.verdict.reason}"
