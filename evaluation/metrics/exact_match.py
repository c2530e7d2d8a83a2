"""Exact match: the share of answers that equal one of the accepted ones."""

from __future__ import annotations

from collections.abc import Sequence

from .metric import Measure, Metric, Sample, empty_reference, mean_sample

EXACT_MATCH = Metric("exact_match", "exact match", made_by="equal texts")


def measure_for(languages: Sequence[str]) -> Measure:
    """The metric; it is the same in every language."""
    return measure


def measure(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[Sample, ...]:
    """Whether each answer equals one that is accepted."""
    if why := empty_reference(references):
        return (Sample(EXACT_MATCH, None, reason=why),)
    hits = [text != "" and text in accepted for text, accepted in zip(hypotheses, references, strict=True)]
    return (mean_sample(EXACT_MATCH, [float(hit) for hit in hits]),)
