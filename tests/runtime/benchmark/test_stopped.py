"""Ctrl-C ends a benchmark with what was measured whole, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fastadasp.evaluation.results.files import Results, read_results
from fastadasp.export.cli import main
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.benchmark.benchmark import STOPPED
from fastadasp.runtime.benchmark.load.records import LoadBenchmark
from fastadasp.runtime.benchmark.records import Benchmark

FEW = ("--profile", "full,own-30", "--warmup", 1, "--new-tokens", 2, "--threads", 1)


def stop_at(monkeypatch: pytest.MonkeyPatch, method: str, call: int) -> None:
    """Ctrl-C in the given call of a method of the model, from 1 on."""
    original, calls = getattr(SpeechLM, method), 0

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyboardInterrupt
        return original(*args, **options)

    monkeypatch.setattr(SpeechLM, method, counted)


def bench(artifact: Path, *more: object) -> Result:
    return CliRunner().invoke(main, ["bench", str(artifact), *map(str, (*FEW, *more))])


def read(output: Path) -> Results:
    return read_results([output])


def test_before_anything_is_measured_it_ends_as_any_command(
    tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(monkeypatch, "load", 1)
    ended = bench(tiny_artifact)
    assert ended.exit_code == 130
    assert ended.stderr.strip() == "Aborted!"


def test_the_rounds_that_are_whole_are_written(
    tiny_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(monkeypatch, "generate", 8)  # warm-up 2, rounds of 2, then the second half of the third one
    output = tmp_path / "results.json"
    ended = bench(tiny_artifact, "--audio-seconds", "2,3", "--beams", 1, "--runs", 50, "-o", output)
    assert ended.exit_code == 130
    assert "stopped: 2 of 4 combinations have whole rounds" in ended.stderr
    assert f"results in {output}" in ended.stderr
    assert "2 s of audio, 1 beam" in ended.stdout
    (found,) = read(output).of(Benchmark)
    short, long = found.found.results[:2], found.found.results[2:]
    assert [(case.audio_seconds, case.profile, case.runs) for case in short] == [
        *((2.0, "full", 2), (2.0, "own-30", 2))
    ]
    assert all(case.median("request_ms") for case in short)
    assert [(case.skipped, case.runs, case.figures) for case in long] == [(STOPPED, 0, None)] * 2


def test_without_a_whole_round_nothing_is_written(
    tiny_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "results.json"
    output.write_text("of an earlier run")
    stop_at(monkeypatch, "generate", 4)
    ended = bench(tiny_artifact, "--audio-seconds", 2, "--beams", 1, "-o", output)
    assert ended.exit_code == 130
    assert "stopped: 0 of 2 combinations have whole rounds" in ended.stderr
    assert output.read_text() == "of an earlier run"


def test_the_loads_that_had_ended_are_written(
    tiny_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(monkeypatch, "submit", 9)  # five of the first profile, warm-up of the next, and some of its own
    loads = ("--audio-seconds", 2, "--beams", 1, "--concurrency", 1, "--requests", 4)
    output = tmp_path / "load.json"
    ended = bench(tiny_artifact, *loads, "-o", output)
    assert ended.exit_code == 130
    assert "stopped: 1 of 2 loads of a profile are whole" in ended.stderr
    (found,) = read(output).of(LoadBenchmark)
    assert [(case.profile, case.answered) for case in found.found.results] == [("full", 4)]
    page = CliRunner().invoke(main, ["report", str(output), "-o", str(tmp_path / "report.html")])
    assert page.exit_code == 0, page.output
