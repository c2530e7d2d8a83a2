"""Word and character error rates, by jiwer: errors of all clips / words (characters) of all references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .metric import Floats, Measure, Metric, Sample, ratio

WER = Metric("wer", "WER", lower_is_better=True, made_by="jiwer")
CER = Metric("cer", "CER", lower_is_better=True, made_by="jiwer, spaces count")


def measure_for(languages: Sequence[str]) -> Measure:
    """The metrics; they are the same in every language."""
    import jiwer

    aligners = {WER: jiwer.process_words, CER: jiwer.process_characters}

    def measure(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[Sample, ...]:
        said, heard = [texts[0] for texts in references], list(hypotheses)
        return tuple(_sample(metric, align(said, heard)) for metric, align in aligners.items())

    return measure


def _sample(metric: Metric, output: Any) -> Sample:
    """From an alignment of all clips: jiwer's own rate, and errors and length of each clip."""
    lengths = [len(units) for units in output.references]
    errors = [sum(map(_errors, chunks)) for chunks in output.alignments]
    statistics: Floats = np.column_stack([errors, lengths]).astype(np.float64)
    if not sum(lengths):
        return Sample(metric, None, reason="the references hold no word once they are normalised")
    return Sample(metric, float(getattr(output, metric.name)), statistics, ratio)


def _errors(chunk: Any) -> int:
    """Edits of one chunk of an alignment: substitutions, or insertions, or deletions."""
    lengths = chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx
    return 0 if chunk.type == "equal" else max(map(int, lengths))
