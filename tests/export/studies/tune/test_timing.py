"""Times of finalists: taken again with other settings, and refused where a finalist cannot be timed."""

from __future__ import annotations

import json
import shutil

import pytest

from fastadasp.evaluation import read_clips
from fastadasp.evaluation.options import EvalOptions
from fastadasp.export.studies.trials import ARTIFACT, Trials
from fastadasp.export.studies.tune.options import TuneOptions
from fastadasp.export.studies.tune.timing import FILE, time_finalists
from fastadasp.profiles.errors import RequestError
from fastadasp.runtime.decoding.options import SearchOptions

OPTIONS = EvalOptions(search=SearchOptions(max_new_tokens=2), normalizer="none", resamples=10)
NAMES = ("own-30",)


@pytest.fixture
def trials(tiny_artifact, tmp_path):
    shutil.copytree(tiny_artifact, tmp_path / ARTIFACT)
    return Trials(tmp_path, OPTIONS)


@pytest.fixture
def timed(trials, clip):
    """Takes times of the finalists on so many seconds of audio, in so many runs."""
    lines = trials.folder / "clips.jsonl"
    lines.write_text(json.dumps({"audio": clip.name, "task": "classify", "label": "anything"}))
    measured = trials.evaluate("all", read_clips(lines, audio_root=clip.parent), NAMES, lambda *_: None)

    def timed(seconds=1.0, runs=1):
        options = TuneOptions(max_loss=0, runs=runs, warmup=0, evaluation=OPTIONS)
        return time_finalists(trials, NAMES, measured, seconds, options, lambda *_: None)

    return timed


def test_times_are_kept_for_the_same_settings_alone(timed):
    first = timed(runs=1)
    assert timed(runs=1) == first
    assert timed(runs=2).benchmark.protocol.runs == 2


def test_finalists_that_cannot_be_timed_are_refused_and_nothing_is_kept(timed, trials):
    with pytest.raises(RequestError, match=r"finalists cannot be timed: .*positions"):
        timed(seconds=1000.0)
    assert not (trials.folder / FILE).exists()
