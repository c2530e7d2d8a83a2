"""BLEU and chrF of a corpus, by sacreBLEU, out of statistics of its segments that add up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...profiles.errors import DependencyError
from .metric import POINTS, Floats, Measure, Metric, Sample
from .scripts import are_unspaced

PLAIN = "13a"  # how sacreBLEU splits words of any language, at blanks and punctuation


def measure_for(languages: Sequence[str]) -> Measure:
    """The metrics. Where all clips name one language, BLEU splits words as sacreBLEU does for it.

    Of a code such as `zh-TW` the language counts, `zh`.

    Raises:
        DependencyError: sacreBLEU needs a further package for the language.
    """
    from sacrebleu.metrics import BLEU, CHRF

    named = {re.split("[-_]", name)[0].lower() for name in languages}
    language = named.pop() if len(named) == 1 else ""
    try:
        scorers = {"bleu": BLEU(trg_lang=language), "chrf": CHRF()}
    except (ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DependencyError(f"BLEU for the language {language!r}: {reason}") from error

    def measure(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[Sample, ...]:
        texts = [texts[0] for texts in references]
        return tuple(_sample(name, scorer, hypotheses, texts) for name, scorer in scorers.items())

    return measure


def _unsplit(metric: Metric, references: Sequence[str]) -> str:
    """Why BLEU has no words to compare; empty where it has."""
    if f"tok:{PLAIN}" not in metric.made_by or not are_unspaced(references):
        return ""
    return (
        "most of the references have no blanks between words: give all clips their language, zh or ja, and "
        "evaluate those of each language by themselves; of other languages chrF tells"
    )


def _sample(name: str, scorer: Any, hypotheses: Sequence[str], references: Sequence[str]) -> Sample:
    found = scorer.corpus_score(list(hypotheses), [list(references)])
    metric = Metric(name, found.name, POINTS, made_by=f"sacrebleu {scorer.get_signature()}")
    if why := _unsplit(metric, references):
        return Sample(metric, None, reason=why)
    # What sacreBLEU's own bootstrap calls (sacrebleu/significance.py); no public functions do the same.
    rows = scorer._extract_corpus_statistics(list(hypotheses), [list(references)])

    def of_sums(sums: Floats) -> Floats:
        def score(row: Floats) -> float:
            return float(scorer._compute_score_from_stats(row.astype(int).tolist()).score)

        return np.apply_along_axis(score, -1, sums)

    return Sample(metric, float(found.score), np.asarray(rows, np.float64), of_sums)
