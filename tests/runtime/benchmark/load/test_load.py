"""Loads: what each time is measured from, how requests are drawn, and the figures of known requests."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from fastadasp.export.cli import main
from fastadasp.profiles.errors import EngineError, QueueFullError, RequestError
from fastadasp.runtime import GenerationResult, SpeechLM, TextHypothesis
from fastadasp.runtime.benchmark.load.arrivals import (
    Arrival,
    MonotonicClock,
    closed_arrivals,
    open_arrivals,
    poisson,
    until,
)
from fastadasp.runtime.benchmark.load.load import load_case, run_load
from fastadasp.runtime.benchmark.load.options import Level, LoadOptions
from fastadasp.runtime.benchmark.load.records import Percentiles
from fastadasp.runtime.latency import STAGES, Latency


class FakeClock:
    """Time goes on only while someone sleeps."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.time += seconds


class Answered:
    """A request with its answer, or what it ends with."""

    def __init__(self, found: GenerationResult | Exception) -> None:
        self._found = found

    def result(self, timeout: float | None = None) -> GenerationResult:
        if isinstance(self._found, Exception):
            raise self._found
        return self._found


def result(request_ms: float, *, stages_ms: float = 0.0, first: float | None = None) -> GenerationResult:
    stages = {**dict.fromkeys(STAGES, 0.0), "prefill": stages_ms}
    latency = Latency(request_ms, first, stages_ms, 60.0, stages, 5, 4, 2.0)
    best = TextHypothesis((1,), 0.0, "stop", text="")
    return GenerationResult("", (best,), latency, 2.0, "full", 1, 1, (1,), 1.0, 1)


# Arrivals


def test_open_arrivals_are_exponential_with_the_asked_rate_and_repeatable_by_their_seed() -> None:
    times = list(itertools.islice(poisson(4.0, seed=3), 20000))
    assert times == list(itertools.islice(poisson(4.0, seed=3), 20000))
    assert times[:5] != list(itertools.islice(poisson(4.0, seed=4), 5))
    gaps = np.diff(times)
    assert np.mean(gaps) == pytest.approx(0.25, rel=0.03)
    assert np.std(gaps) == pytest.approx(0.25, rel=0.03)


def test_a_load_ends_with_its_requests_or_with_its_time() -> None:
    assert list(until(iter([0.5, 1.5, 2.5]), 2, None)) == [0.5, 1.5]
    assert list(until(iter([0.5, 1.5, 2.5]), None, 2.0)) == [0.5, 1.5]


def test_open_arrivals_are_sent_when_they_are_due() -> None:
    clock = FakeClock()
    sent: list[float] = []

    def send(index: int) -> Answered:
        sent.append(clock.now())
        return Answered(result(10_000.0))  # longer than any gap: nobody waits for it

    found = open_arrivals([0.5, 0.75, 2.0], send, clock)
    assert sent == [100.5, 100.75, 102.0]
    assert [each.late_ms for each in found] == [0, 0, 0]
    assert [each.end for each in found] == [10.5, 10.75, 12.0]


def test_what_keeps_a_request_from_being_sent_is_part_of_its_latency() -> None:
    """The first submission blocks for 3 s, in which two more requests are due."""
    clock = FakeClock()

    def send(index: int) -> Answered:
        clock.sleep(3.0 if index == 0 else 0.1)
        return Answered(result(200.0, stages_ms=150.0, first=100.0))

    found = open_arrivals([1.0, 2.0, 3.5, 8.0], send, clock)
    assert [each.sent for each in found] == pytest.approx([1.0, 4.0, 4.1, 8.0])
    case = load_case(Level("open", 1.0), "full", found, 2.0)
    late = [0.0, 2000.0, 600.0, 0.0]
    assert case.times["request_ms"] == percentiles([200.0 + each for each in late])
    assert case.times["first_token_ms"] == percentiles([100.0 + each for each in late])
    assert case.times["wait_ms"] == percentiles([50.0 + each for each in late])
    assert case.times["step_ms"] == percentiles([15.0] * 4)


def percentiles(values: list[float]) -> Any:
    """By NumPy, to the rounding of sums of times."""
    p50, p90, p99 = np.percentile(values, [50, 90, 99])
    return _Close(Percentiles(len(values), p50, p90, p99, max(values)))


class _Close:
    def __init__(self, wanted: Percentiles) -> None:
        self.wanted = wanted

    def __eq__(self, found: object) -> bool:
        return isinstance(found, Percentiles) and vars(found) == pytest.approx(vars(self.wanted))

    def __repr__(self) -> str:
        return repr(self.wanted)

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("count", [1, 2, 7, 100, 1001])
def test_percentiles_are_those_of_numpy_over_what_is_there(count: int) -> None:
    values = np.random.default_rng(count).exponential(50, count).tolist()
    assert percentiles(values) == Percentiles.of([None, *values, None])
    assert Percentiles.of([None]) is None


def test_clients_wait_for_their_answers_and_no_more_than_that_many_run() -> None:
    import threading

    running, most, lock = 0, 0, threading.Lock()
    barrier = threading.Barrier(3)

    class Slow(Answered):
        def result(self, timeout: float | None = None) -> GenerationResult:
            nonlocal running
            barrier.wait(10)  # three clients are here at once, or this breaks
            with lock:
                running -= 1
            return super().result(timeout)

    def send(index: int) -> Answered:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        return Slow(result(1.0))

    found = closed_arrivals(3, send, MonotonicClock(), requests=9)
    assert sorted(each.index for each in found) == list(range(9))
    assert most == 3


def test_clients_send_nothing_after_the_end_of_their_time() -> None:
    clock = FakeClock()

    def send(index: int) -> Answered:
        clock.sleep(1.0)
        return Answered(result(1000.0))

    found = closed_arrivals(1, send, clock, seconds=3.5)
    assert [each.due for each in found] == [0, 1, 2, 3]


def test_a_fault_of_the_program_in_a_client_is_raised() -> None:
    def send(index: int) -> Answered:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        closed_arrivals(2, send, MonotonicClock(), requests=9)


def test_requests_that_fail_are_counted_by_their_error_and_in_no_time() -> None:
    def send(index: int) -> Answered:
        if index == 1:
            raise QueueFullError("full")
        return Answered(EngineError("broken") if index == 2 else result(500.0))

    found = open_arrivals([1.0, 2.0, 3.0, 5.5], send, FakeClock())
    case = load_case(Level("open", 1.0), "full", found, 1.0)
    assert case.answered == 2
    assert case.failures == {"QueueFullError": 1, "EngineError": 1}
    assert case.times["request_ms"] == percentiles([500.0, 500.0])
    assert case.seconds == pytest.approx(5.0)  # from the first arrival to the last answer
    assert case.requests_per_second == pytest.approx(0.4)
    assert case.audio_seconds_per_second == pytest.approx(0.8)
    assert case.tokens_per_second == pytest.approx(2.0)
    assert case.cpu_ms_per_request == pytest.approx(500.0)


def test_a_load_without_an_answer_has_no_figures() -> None:
    case = load_case(Level("closed", 2), "full", [Arrival(0, 0.0, 0.0, None, "EngineError")], 1.0)
    assert case.cpu_ms_per_request is None
    assert case.requests_per_second == 0
    assert set(case.times.values()) == {None}


# With a model

FEW = ("--new-tokens", 4, "--warmup", 1, "--threads", 1, "--audio-seconds", "1,2", "--beams", "1,2")


def test_every_profile_gets_the_same_requests_under_every_load(tiny_artifact: Path) -> None:
    asked: dict[str, list[tuple[Any, ...]]] = {}
    options = LoadOptions(
        (2,), (50.0,), ("full", "own-30"), (1, 2), (1.0, 2.0), new_tokens=4, requests=12, warmup=0
    )
    with SpeechLM.load(tiny_artifact, threads=1) as model:
        submit = model.submit

        def noted(audio: Any, prompt: Any, *, profile: str, search: Any) -> Any:
            asked.setdefault(profile, []).append((len(audio), search.num_beams))
            return submit(audio, prompt, profile=profile, search=search)

        model.submit = noted  # type: ignore[method-assign,assignment]
        found = run_load(model, options)
    assert sorted(asked["full"][:12]) == sorted(asked["full"][12:]) == sorted(asked["own-30"][:12])
    assert len(set(asked["full"])) == 4
    greedy = sum(beams == 1 for _, beams in asked["full"][:12])
    for case in found.results:
        assert case.answered == 12
        assert not case.failures
        first, whole = case.times["first_token_ms"], case.times["request_ms"]
        assert first is not None
        assert whole is not None
        assert (first.count, whole.count) == (greedy, 12)
        assert case.tokens_per_second * case.seconds == pytest.approx(48)


def bench(artifact: Path, *more: object) -> Result:
    found = CliRunner().invoke(main, ["bench", str(artifact), *map(str, (*FEW, *more))])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def test_bench_prints_a_table_for_each_load_and_writes_them(tiny_artifact: Path, tmp_path: Path) -> None:
    output = tmp_path / "load.json"
    loads = ("--concurrency", "1,2", "--rate", "40", "--requests", 4, "--max-batch", 2, "--profile", "own-30")
    found = bench(tiny_artifact, *loads, "-o", output)
    assert found.exit_code == 0, found.output
    heads = [line for line in found.stdout.splitlines() if line in ("1 client", "2 clients", "40 requests/s")]
    assert heads == ["1 client", "2 clients", "40 requests/s"]
    assert max(map(len, found.stdout.splitlines())) <= 80
    content = json.loads(output.read_text("utf-8"))
    assert content["kind"] == "bench-load"
    assert content["protocol"]["max_batch"] == 2
    assert [case["answered"] for case in content["results"]] == [4, 4, 4]
    assert {case["cpu_ms_per_request"] > 0 for case in content["results"]} == {True}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--concurrency", 1, "--runs", 3), "--runs: not of a load"),
        (("--requests", 3), "--requests: of a load; give --concurrency or --rate"),
        (("--rate", 0), "--rate is 0.0: give a number above 0"),
        (("--concurrency", 0), "concurrency is 0: give a whole number of at least 1"),
        (("--rate", 1, "--seconds", 1, "--requests", 2), "--requests and --seconds exclude each other"),
        (("--rate", 1, "--audio-seconds", 600), "600.0 s take 15000 rows"),
        (("--rate", 1, "--profile", "none"), "profile none is not in this artifact"),
        (("--rate", 1, "--max-batch", 0), "--max-batch is 0"),
        (("--concurrency", "2,8", "--requests", 4), "requests is 4, fewer than the 8 clients of concurrency"),
        (("--concurrency", 101), "requests is 100, fewer than the 101 clients"),
    ],
)
def test_what_makes_no_load_is_refused(tiny_artifact: Path, words: tuple[object, ...], named: str) -> None:
    found = bench(tiny_artifact, *words)
    assert found.exit_code == 2
    assert named in found.stderr


def test_a_load_has_clients_or_a_rate() -> None:
    with pytest.raises(RequestError, match="neither concurrency nor rates"):
        LoadOptions()
