"""What the gate of an evaluation says, as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..results.evaluation import EvaluationResult
from .first import first_in_words
from .gate import Judged


def gate_lines(found: EvaluationResult, judged: Sequence[Judged]) -> Iterator[str]:
    """What is compared, with what, and the verdict on each profile; none where there is no budget."""
    if not judged:
        return
    first, metric = found.profiles[0], found.metrics[0]
    yield ""
    yield (
        f"Budget: loss of {metric.title} against {first.profile}, in points, by the upper end of its 95 % "
        "interval"
    )
    own, answers = first_in_words(metric, first), found.clips.measured
    yield f"{first.profile}: {own}, {first.cut_off} of {answers} answers cut off"
    for each in judged:
        outcome = "pass" if each.verdict.is_accepted else "FAIL"
        yield f"{outcome}: {each.profile}: {each.verdict.reason}"
