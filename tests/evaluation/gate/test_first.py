"""Losses against a profile that hardly answers tell nothing."""

from __future__ import annotations

import pytest

from fastadasp.evaluation.gate.first import first_fault
from fastadasp.evaluation.metrics.metric import POINTS, SCORE, Metric
from fastadasp.evaluation.results.figures import Measured, ProfileFigures

WER = Metric("wer", "WER", lower_is_better=True)
ACCURACY = Metric("accuracy", "Accuracy")
BLEU = Metric("bleu", "BLEU", POINTS)
CIDER = Metric("cider", "CIDEr", SCORE)


def fault(metric: Metric, value: float | None, cut_off: int = 0, answers: int = 30, task: str = "asr") -> str:
    first = ProfileFigures("full", {metric.name: Measured(value)}, 1.0, 0.0, cut_off)
    return first_fault(task, metric, first, answers)


@pytest.mark.parametrize(("cut_off", "answers"), [(4, 30), (1, 9), (30, 30)])
def test_more_than_a_tenth_of_answers_that_are_cut_off_is_too_many(cut_off: int, answers: int) -> None:
    words = f"{cut_off} of {answers} answers of full were cut off"
    assert fault(WER, 0.5, cut_off, answers).startswith(words)
    remedy = "raise --max-new-tokens, or leave out clips whose answers never end"
    assert fault(WER, 1.5, cut_off, answers) == f"{words}: {remedy}"


@pytest.mark.parametrize(("cut_off", "answers"), [(3, 30), (1, 10), (0, 1), (0, 0)])
def test_up_to_a_tenth_of_them_may_never_end(cut_off: int, answers: int) -> None:
    assert not fault(WER, 0.5, cut_off, answers)


@pytest.mark.parametrize("task", ["classify", "qa"])
def test_a_label_may_fill_the_limit_of_tokens_but_not_all_of_them_can_be_wrong(task: str) -> None:
    assert not fault(ACCURACY, 1.0, 30, 30, task)
    assert not fault(ACCURACY, 0.3, 30, 30, task)
    assert fault(ACCURACY, 0.0, 30, 30, task).startswith("30 of 30 answers of full were cut off")
    assert "no better than empty answers" in fault(ACCURACY, 0.0, 3, 30, task)


@pytest.mark.parametrize(
    ("metric", "value", "words"),
    [
        (WER, 1.0, "full itself, with WER 100.00 %, is no better than empty answers"),
        (WER, 1.25, "with WER 125.00 %"),
        (ACCURACY, 0.0, "with Accuracy 0.00 %"),
        (BLEU, 0.0, "with BLEU 0.00, is"),
        (CIDER, 0.0, "with CIDEr 0.000, is"),
    ],
)
def test_a_profile_as_bad_as_empty_answers_leaves_nothing_to_lose(
    metric: Metric, value: float, words: str
) -> None:
    assert words in fault(metric, value)
    assert "give a prompt and clips that it can answer" in fault(metric, value)


@pytest.mark.parametrize(
    ("metric", "value"),
    [(WER, 0.999), (WER, 0.0), (ACCURACY, 0.01), (BLEU, 0.1), (CIDER, 0.001), (WER, None)],
)
def test_one_that_is_better_or_not_measured_has_no_such_fault(metric: Metric, value: float | None) -> None:
    assert not fault(metric, value)
