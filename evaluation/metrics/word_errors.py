"""Word and character error rates, by jiwer: errors of all clips / words (characters) of all references.

Beside them what the word errors are, which tells answers that end too early from those that go round in
circles, as one rate cannot.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .metric import Floats, Measure, Metric, Sample, mean_sample, ratio
from .scripts import are_unspaced

WER = Metric("wer", "WER", lower_is_better=True, made_by="jiwer")
CER = Metric("cer", "CER", lower_is_better=True, made_by="jiwer, spaces count")
ERRORS = (
    Metric("substitutions", "substituted", lower_is_better=True, made_by="jiwer"),
    Metric("deletions", "left out", lower_is_better=True, made_by="jiwer"),
    Metric("insertions", "added", lower_is_better=True, made_by="jiwer"),
)
"""Shares of the words of the references, which add up to the WER."""
KINDS = (*ERRORS, Metric("words_right", "right", made_by="jiwer"))
"""What became of the words of the references, in the order of `_edits`."""
SHORT = Metric(
    "short_answers",
    "short answers",
    lower_is_better=True,
    made_by="answers of at most half as many words as the reference",
)
DETAILS = (*KINDS, SHORT)
"""What explains the rates, and is shown beside them rather than as metrics of their own."""
UNSPLIT = "most of the references have no blanks between words; CER tells"


def is_detail(metric: Metric) -> bool:
    """Whether it is one of `DETAILS`, as measured or as a file has it."""
    return metric.name in {detail.name for detail in DETAILS}


def measure_for(languages: Sequence[str]) -> Measure:
    """The metrics. Where references have no blanks between words, CER is the first, and the only one."""
    import jiwer

    def measure(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[Sample, ...]:
        said, heard = [texts[0] for texts in references], list(hypotheses)
        of_characters = _rate(CER, jiwer.process_characters(said, heard))
        if are_unspaced(said):
            return (of_characters, *(Sample(metric, None, reason=UNSPLIT) for metric in (WER, *DETAILS)))
        words = jiwer.process_words(said, heard)
        return (_rate(WER, words), of_characters, *_kinds(words), _short(words))

    return measure


def _rate(metric: Metric, output: Any) -> Sample:
    """From an alignment of all clips: jiwer's own rate, and errors and length of each clip."""
    errors = _edits(output)[:, :3].sum(1)
    return _share(metric, output, errors, float(getattr(output, metric.name)))


def _kinds(output: Any) -> Iterator[Sample]:
    """What became of the words of the references."""
    for metric, counts in zip(KINDS, _edits(output).T, strict=True):
        yield _share(metric, output, counts)


def _share(metric: Metric, output: Any, counts: Floats, value: float | None = None) -> Sample:
    """Of the units of all references; `counts` (clips,) are those of each clip."""
    statistics = np.column_stack([counts, [len(units) for units in output.references]]).astype(np.float64)
    if not statistics[:, 1].sum():
        return Sample(metric, None, reason="the references hold no word once they are normalised")
    return Sample(metric, float(ratio(statistics.sum(0))) if value is None else value, statistics, ratio)


def _edits(output: Any) -> Floats:
    """Of each clip (clips, 4): units substituted, deleted, inserted and right."""
    return np.array([_edits_of(chunks) for chunks in output.alignments], np.float64).reshape(-1, 4)


def _edits_of(chunks: Sequence[Any]) -> list[int]:
    found = dict.fromkeys(("substitute", "delete", "insert", "equal"), 0)
    for chunk in chunks:
        lengths = chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx
        found[chunk.type] += max(map(int, lengths))
    return list(found.values())


def _short(output: Any) -> Sample:
    """Answers that ended early, or said nothing; a reference without words can have none."""
    pairs = zip(output.references, output.hypotheses, strict=True)
    return mean_sample(SHORT, [bool(said) and 2 * len(heard) <= len(said) for said, heard in pairs])
