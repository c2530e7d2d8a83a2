"""Whatever a result file of each kind holds: a page, or an error of the project that names every fault."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastadasp.evaluation.answers.answers import Answer
from fastadasp.evaluation.report.page import page
from fastadasp.evaluation.results.evaluation import ClipRecord, EvaluationResult
from fastadasp.evaluation.results.files import KINDS, Result, read_results, result_text
from fastadasp.evaluation.results.settings import Failure
from fastadasp.profiles.errors import ResultsError
from fastadasp.runtime.benchmark.load.records import LoadBenchmark, LoadCase, LoadProtocol, Percentiles
from fastadasp.runtime.benchmark.records import Benchmark, BenchmarkProtocol, Case, Spread
from fuzzing import BAD, answered, changed, fuzz, mutants, places, removed, renamed, set_to

from ..report import examples


def evaluation() -> EvaluationResult:
    """Two profiles of an artifact, one clip of which was not answered."""
    clips = (
        ClipRecord("a", 1, "a.wav", "en", "", ("x",), True, 75, 12, {"full": Answer("x", 2, True, 1.0)}, {}),
        ClipRecord("b", 2, "b.wav", "en", "", ("y",), False, None, None, {}, {"full": "too short"}),
    )
    return EvaluationResult(
        task="classify",
        artifact={"folder": "ART", "digest": "d", "ratios": {"full": "0"}},
        clips=examples.CLIPS,
        longest_seconds=30.0,
        settings=examples.SETTINGS,
        intervals=examples.INTERVALS,
        metrics=(examples.ACCURACY,),
        max_loss=0.01,
        least_recordings=30,
        profiles=(examples.tuning().full, examples.tuning().candidates[0].scores),
        failures=(Failure("b", 2, ("full",), "too short"),),
        records=clips,
        environment=examples.ENVIRONMENT,
    )


def benchmark() -> Benchmark:
    """Two profiles of which one was skipped."""
    protocol = BenchmarkProtocol(
        ("full", "half"), (1, 5), (10.0,), None, None, 32, 5, 1, 2, "noise", "process"
    )
    spread = Spread(10.0, 9.0, 11.0)
    figures = {"total_ms": spread, "prefill_ms": spread, "step_ms": None}
    found = Case(5, 10.0, "full", 5, None, figures, {"prefill": spread}, 1.0, 10**6, 10**8)
    skipped = Case(5, 10.0, "half", skipped="out of memory")
    return Benchmark({"folder": "ART", "digest": "d"}, protocol, examples.ENVIRONMENT, (found, skipped))


def load() -> LoadBenchmark:
    """Two loads, of which one answered nothing."""
    protocol = LoadProtocol(
        *(("full",), (2,), (0.5,), (1,), (10.0,), None, None, 32, None, 5.0, 1, 0, 8, 1, "noise", "run"),
        times={"request_ms": "all of it"},
    )
    times = {"request_ms": Percentiles(4, 1.0, 2.0, 3.0, 3.5), "first_token_ms": None}
    closed = LoadCase(
        "full", "closed", 2, None, 4, {"RequestError": 1}, 2.0, 2.0, 20.0, 9.0, 30.0, times, 10**8
    )
    nothing = LoadCase("full", "open", None, 0.5, 0, {}, 0.0, 0.0, 0.0, 0.0, None, {})
    return LoadBenchmark({"folder": "ART"}, protocol, examples.ENVIRONMENT, (closed, nothing))


MADE_UP: dict[str, Callable[[], Result]] = {
    "bench": benchmark,
    "bench-load": load,
    "eval": evaluation,
    "compare": examples.quantized_comparison,
    "select-layer": examples.selection,
    "tune": examples.tuning,
    "plan": examples.plan,
    "row-map": examples.row_map,
}


def content_of(kind: str) -> dict[str, Any]:
    """The JSON of a file of this kind."""
    found: dict[str, Any] = json.loads(result_text(MADE_UP[kind]()))
    return found


def report(path: Path, content: object) -> object:
    """The page of one file, whose name every fault begins with."""
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    found = answered(lambda: page(read_results([path])))
    if isinstance(found, Exception):
        assert isinstance(found, ResultsError)
        assert all(fault.startswith(f"{path}: ") for fault in found.faults)
    return found


def test_every_kind_is_tried(tmp_path: Path) -> None:
    assert set(MADE_UP) == set(KINDS)
    for kind in KINDS:
        assert isinstance(report(tmp_path / "x.json", content_of(kind)), str)


@pytest.mark.parametrize("kind", KINDS)
def test_fields_with_values_that_they_cannot_have(tmp_path: Path, kind: str) -> None:
    content = content_of(kind)
    found = list(places(content, most=2))
    changes = [*map(set_to, BAD[::2]), removed, renamed("other")]
    refused = 0
    for i, place in enumerate(found[:: len(found) // 60]):
        answer = report(tmp_path / "x.json", changed(content, place, changes[i % len(changes)]))
        refused += not isinstance(answer, str)
    assert refused > 20


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", KINDS)
@fuzz(30)
@given(data=st.data())
def test_any_change_of_a_file(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    report(tmp_path / "x.json", data.draw(mutants(content_of(kind))))


HOSTILE = {
    "deep": "[" * 10**6,
    "deep in a field": '{"kind": "eval", "x": ' + "[" * 300 + "]" * 300 + "}",
    "digits": '{"kind": "bench", "x": ' + "7" * 10**6 + "}",
    "infinite": '{"kind": "bench", "x": 1e999}',
    "half a character": '{"kind": "tune", "x": "\\udfff"}',
    "twice": '{"kind": "tune", "kind": "eval"}',
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_file_that_python_reads_badly_is_refused_in_plain_words(tmp_path: Path, text: str) -> None:
    (fault,) = report(tmp_path / "x.json", text).faults  # type: ignore[attr-defined]
    assert fault.endswith("; give a file that a command of this tool wrote")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [1e308, -1e308, 9e99, 5e-324])
def test_numbers_beyond_any_figure_are_refused_or_shown(tmp_path: Path, kind: str, number: float) -> None:
    content = content_of(kind)
    for place in places(content):
        value = content
        for key in place:
            value = value[key]
        if isinstance(value, float) and "search" not in place:  # whose options have limits of their own
            content = changed(content, place, set_to(number))
    assert isinstance(report(tmp_path / "x.json", content), str) == (abs(number) < 1e100)
