"""The profile of each clip is chosen for its length, and its line says which one and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile
from click.testing import CliRunner, Result

from conftest import noise
from fastadasp.evaluation.answers.workers import Job
from fastadasp.evaluation.bulk.output import failures_of
from fastadasp.evaluation.bulk.worker import BulkJob, transcribe_clip
from fastadasp.evaluation.clips.clip import Clip
from fastadasp.export.cli import main
from fastadasp.runtime import Auto, SegmentOptions, SpeechLM
from fastadasp.runtime.decoding.options import SearchOptions
from fastadasp.runtime.runtime_options import RuntimeOptions
from measured_figures import FIGURES, take_in, with_figures

BUDGET = Auto(latency_budget=0.1)  # which `full` keeps up to two seconds


@pytest.fixture
def measured(tiny_artifact: Path, tmp_path: Path) -> Path:
    """A copy with figures."""
    return with_figures(tiny_artifact, tmp_path / "measured", FIGURES)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Audio of 1, 3 and 5 seconds: of the last one there are no figures."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for seconds in (1, 3, 5):
        soundfile.write(folder / f"{seconds}.wav", noise(seconds), 16000)
    return folder


def invoke(artifact: Path, clips: Path, output: Path, *more: object) -> Result:
    words = ["transcribe", artifact, clips, "-o", output, "--workers", 1, "--max-new-tokens", 3]
    profile = () if "--profile" in more else ("--profile", "auto")
    result = CliRunner().invoke(main, [str(word) for word in (*words, "--prompt", "hello", *profile, *more)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def lines(path: Path) -> dict[str, dict[str, Any]]:
    return {line["id"]: line for line in map(json.loads, path.read_text("utf-8").splitlines())}


def test_each_line_has_the_profile_for_its_length_and_the_reason(
    measured: Path, clips: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    ended = invoke(measured, clips, output, "--latency-budget", 0.1)
    assert ended.exit_code == 1, ended.stderr
    found = lines(output)
    assert {id: line["profile"] for id, line in found.items()} == {"1.wav": "full", "3.wav": "own-30"}
    assert found["3.wav"]["profile_reason"].startswith("own-30: 0.075 s predicted")
    (failure,) = lines(failures_of(output)).values()
    assert (failure["id"], failure["profile"]) == ("5.wav", "auto")
    assert "no figures of latency for 5.0 s of audio" in failure["error"]

    other = invoke(measured, clips, output, "--latency-budget", 0.2)
    assert other.exit_code == 2
    assert "budget.latency_budget was 0.1, now 0.2" in other.stderr
    take_in(measured, replace(FIGURES, latency=replace(FIGURES.latency, new_tokens=9)))  # type: ignore[arg-type]
    assert "budget.figures was" in invoke(measured, clips, output, "--latency-budget", 0.1).stderr


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--latency-budget", 0.01), "none of the accepted ones is predicted to take at most 0.01 s"),
        (("--latency-budget", 1, "--beams", 2), "no figures of latency for 2 beams under profile full"),
        (("--beams", 1), "--latency-budget and --accuracy-budget: give one of them"),
        (("--accuracy-budget", 1, "--profile", "full"), "a budget to choose a profile by"),
    ],
    ids=["nothing meets it", "other beams", "no budget", "a named profile"],
)
def test_what_no_clip_could_be_answered_with_is_refused_before_any(
    measured: Path, clips: Path, tmp_path: Path, more: tuple[object, ...], told: str
) -> None:
    ended = invoke(measured, clips, tmp_path / "out.jsonl", *more)
    assert ended.exit_code == 2
    assert told in " ".join(ended.stderr.split())
    assert not (tmp_path / "out.jsonl").exists()


def test_without_figures_there_is_no_choice(tiny_artifact: Path, clips: Path, tmp_path: Path) -> None:
    ended = invoke(tiny_artifact, clips, tmp_path / "out.jsonl", "--accuracy-budget", 1)
    assert ended.exit_code == 2
    assert "the artifact holds no figures of accuracy" in ended.stderr


@pytest.fixture
def model(measured: Path) -> Iterator[SpeechLM]:
    with SpeechLM.load(measured, threads=1) as loaded:
        yield loaded


def test_a_clip_that_is_cut_has_the_profile_for_its_longest_segment(
    model: SpeechLM, measured: Path, clips: Path
) -> None:
    search = SearchOptions(max_new_tokens=3)
    job = Job(measured, model.manifest.digest, ("full",), search, RuntimeOptions())
    clip = Clip("5.wav", None, "5.wav", clips / "5.wav", "", (), "hello")
    for seconds, wanted in ((2.0, "full"), (4.0, "own-30")):
        bulk = BulkJob(job, None, SegmentOptions(max_seconds=seconds), BUDGET)
        found = transcribe_clip(model, bulk, clip).to_json()
        assert found["profile"] == wanted
        assert f"of {seconds:.1f} s of audio" in found["profile_reason"]
