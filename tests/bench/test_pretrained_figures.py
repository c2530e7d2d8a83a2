"""What the page of the second model says of results and logs, and of their absence."""

from __future__ import annotations

import json

import pretrained_figures as measuring
import pytest


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "RESULTS", tmp_path)
    return tmp_path


def test_without_results_it_says_that_there_are_none():
    assert "Not measured yet" in next(measuring.accuracy())
    assert not list(measuring.training())


def test_the_log_stays_that_of_the_training_that_was_measured(results):
    work = results / "work"
    (work / "model-seed-7").mkdir(parents=True)
    (work / measuring.LOG).write_text("of another", "utf-8")
    first = results / "first"
    first.mkdir()
    (first / measuring.LOG).write_text("of this one", "utf-8")
    (first / "seed-0.human.json").touch()
    with pytest.raises(SystemExit, match="seed-0"):
        measuring.measure(work, first)
    assert (first / measuring.LOG).read_text("utf-8") == "of this one"


def test_the_log_is_shown_stage_by_stage_without_pauses_and_steps_done_twice(results):
    def line(stage, step, time, **more):
        return {"stage": stage, "seed": 0, "step": step, "time": time, "answers": 1.0, "size": 0.1, **more}

    lines = [line("ctc", step, 360.0 * step, ctc=9.0) for step in range(5, 101, 5)]
    lines += [line("ctc", 100, 40000.0, ctc=7.5), line("steady", 5, 10**6, ctc=7.0)]
    (results / "first").mkdir()
    (results / "first" / measuring.LOG).write_text("\n".join(json.dumps(each) for each in lines), "utf-8")
    shown = [row.strip("| ").split(" | ") for row in measuring.training()][5:]
    assert len(shown) == measuring.SHOWN + 1
    assert shown[0][:3] == ["ctc", "0", "5"]
    assert shown[-2][list(measuring.COLUMNS).index("ctc")] == "7.5"
    assert shown[-1][0] == "steady"
    assert float(shown[-1][3]) == pytest.approx((19 * 600 + 600) / 3600, abs=0.01)  # the gaps are longer
