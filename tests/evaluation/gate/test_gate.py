"""A result file of `eval` tells the verdict on each profile, and the page shows it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fastadasp.evaluation.gate.gate import Judged, judged
from fastadasp.evaluation.metrics.metric import POINTS, Metric
from fastadasp.evaluation.report.page import sections
from fastadasp.evaluation.results.evaluation import EvaluationResult
from fastadasp.evaluation.results.figures import Difference, Measured, ProfileFigures
from fastadasp.evaluation.results.files import ResultFile, Results
from fastadasp.runtime.choice.acceptance import Verdict

from ..report import examples

WER = Metric("wer", "WER", lower_is_better=True)
BLEU = Metric("bleu", "BLEU", POINTS)


def evaluation(metric: Metric, *delta: float, recordings: int = 40, **others: Any) -> EvaluationResult:
    """`own-30` against `full`: a difference with its interval, in the unit of the metric."""
    change = Difference(*delta, p_value=0.5)
    found = EvaluationResult(
        task="asr",
        artifact={"digest": "d"},
        clips=replace(examples.CLIPS, measured=50, recordings=recordings),
        longest_seconds=30.0,
        settings=examples.SETTINGS,
        intervals=examples.INTERVALS,
        metrics=(metric,),
        max_loss=3 / metric.scale,
        least_recordings=30,
        profiles=(
            ProfileFigures("full", {metric.name: Measured(0.1, 0.05, 0.2)}, 1.0, 0.0, 0),
            ProfileFigures("own-30", {metric.name: Measured(0.12, 0.06, 0.2, change)}, 0.5, 0.4, 0),
        ),
        failures=(),
        records=(),
        environment=examples.ENVIRONMENT,
    )
    return replace(found, **others)


def notes_of(found: EvaluationResult) -> list[str]:
    """All that the page notes."""
    page = sections(Results((ResultFile("eval.json", found, None),)))
    return [note for section in page for note in section.notes]


@pytest.mark.parametrize(
    ("found", "row"),
    [
        (evaluation(WER, 0.02, -0.01, 0.029), ("own-30", "+2.00", "-1.00 to +2.90", "3", "within")),
        (evaluation(WER, 0.02, -0.01, 0.05), ("own-30", "+2.00", "-1.00 to +5.00", "3", "cannot tell")),
        (
            evaluation(WER, 0.02, -0.01, 0.029, recordings=29),
            (*("own-30", "+2.00", "-1.00 to +2.90", "3"), "cannot tell"),
        ),
        (evaluation(WER, 0.04, 0.01, 0.05), ("own-30", "+4.00", "+1.00 to +5.00", "3", "over")),
        (evaluation(BLEU, -2.0, -2.5, 1.0), ("own-30", "+2.00", "-1.00 to +2.50", "3", "within")),
        (evaluation(BLEU, -4.0, -5.0, 1.0), ("own-30", "+4.00", "-1.00 to +5.00", "3", "over")),
    ],
    ids=["within", "wide", "few recordings", "over", "higher is better", "higher is better, over"],
)
def test_the_page_shows_loss_interval_budget_and_verdict(
    found: EvaluationResult, row: tuple[str, ...]
) -> None:
    (section,) = [
        each
        for each in sections(Results((ResultFile("eval.json", found, None),)))
        if each.title == "Profiles of an artifact"
    ]
    _, table = section.tables
    assert table.rows == (row,)
    assert f"on 50 clips of {found.clips.recordings} recordings" in table.caption
    assert "at least 30 recordings" in table.caption


@pytest.mark.parametrize(
    ("figure", "cut_off", "reason"),
    [
        (0.1, 6, "6 of 50 answers of full were cut off"),
        (1.0, 0, "full itself, with WER 100.00 %, is no better"),
    ],
)
def test_the_page_says_why_a_full_model_that_hardly_answers_leaves_no_verdict(
    figure: float, cut_off: int, reason: str
) -> None:
    found = evaluation(WER, 0.0, 0.0, 0.0)
    first = replace(found.profiles[0], figures={"wer": Measured(figure)}, cut_off=cut_off)
    found = replace(found, profiles=(first, found.profiles[1]))
    (found_out,) = judged(found)
    assert found_out.verdict.outcome == "cannot tell"
    start = f"eval.json: own-30: +0.00 (95 %: +0.00 to +0.00) of a budget of 3: cannot tell, for {reason}"
    assert any(note.startswith(start) for note in notes_of(found))


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (
            evaluation(WER, 0.02, -0.01, 0.05),
            "cannot tell, for the interval goes beyond it",
        ),
        (
            evaluation(WER, 0.02, -0.01, 0.029, recordings=29),
            "few recordings, 29 of at least 30: give more, or lower --least-recordings",
        ),
        (evaluation(WER, 0.02, -0.01, 0.029), None),
        (evaluation(WER, 0.04, 0.01, 0.05), None),
    ],
    ids=["wide", "few recordings", "within", "over"],
)
def test_the_page_says_of_each_profile_why_the_clips_cannot_tell(
    found: EvaluationResult, reason: str | None
) -> None:
    told = [note for note in notes_of(found) if note.startswith("eval.json: own-30: ")]
    assert [note.endswith(str(reason)) for note in told] == [True] * (reason is not None)


def test_a_profile_without_a_figure_has_no_verdict_but_a_row() -> None:
    found = evaluation(WER, 0.0, 0.0, 0.0)
    bare = replace(found, profiles=(found.profiles[0], replace(found.profiles[1], figures={})))
    (found_out,) = judged(bare)
    reason = "there is no figure: none of full"
    assert found_out == Judged("own-30", None, Verdict("cannot tell", reason))
    assert f"eval.json: own-30: {reason}" in notes_of(bare)


def test_without_a_budget_there_is_no_verdict() -> None:
    assert not list(judged(evaluation(WER, 0.0, 0.0, 0.0, max_loss=None)))
