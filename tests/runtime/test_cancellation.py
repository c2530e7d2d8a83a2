"""Requests that end before their answer: cancelled from any thread, by a deadline, or with their task."""

from __future__ import annotations

import asyncio
import gc
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from click.testing import CliRunner

from conftest import noise
from fastadasp.export.cli import main
from fastadasp.profiles.errors import DeadlineExceeded, FastAdaSPError, RequestCancelled, RequestError
from fastadasp.runtime import Cancellation, GenerationResult, SpeechLM
from fastadasp.runtime.cancellation import guard as guard_module
from fastadasp.runtime.memory.limit import MemoryLimit
from fastadasp.runtime.requests.request import Request

SOUND = noise(3.0)
MOMENTS = 200
ASKED: dict[str, Any] = {"max_new_tokens": 8, "eos_token_ids": ()}
LONG_WAIT = 60.0  # seconds, for what takes milliseconds


@pytest.fixture(scope="module")
def model(tiny_artifact: Any) -> SpeechLM:
    return SpeechLM.load(tiny_artifact, threads=1)


@pytest.fixture(scope="module")
def answer(model: SpeechLM) -> Any:
    return found(model.generate(SOUND, "hello", **ASKED))


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before
    assert guard_module.current_guard() is None


def found(result: GenerationResult) -> Any:
    """What an answer says, bit by bit, without its times."""
    return result.hypotheses, result.prefix_lengths, result.kv_bytes


def sessions_of(model: SpeechLM) -> dict[str, Any]:
    opened: Any = model._loaded.sessions
    return {"encoder": opened.encoder, "prefill": opened.prefill(model.profile), "step": opened.decode}


def at_run(
    monkeypatch: pytest.MonkeyPatch, session: Any, act: Callable[[Any], None], number: int = 1
) -> list[Any]:
    """Call `act` with the options of that run of a session when it begins; the options of all runs."""
    run, options_of_runs = session._session.run_with_ort_values, []

    def acting(outputs: Any, feed: Any, options: Any) -> Any:
        options_of_runs.append(options)
        if len(options_of_runs) == number:
            act(options)
        return run(outputs, feed, options)

    monkeypatch.setattr(session._session, "run_with_ort_values", acting)
    return options_of_runs


def from_another_thread(call: Callable[[], object]) -> Callable[[Any], None]:
    def act(options: Any) -> None:
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()

    return act


def wait_for_stop(options: Any) -> None:
    end = time.monotonic() + LONG_WAIT
    while not options.terminate:
        assert time.monotonic() < end, "nothing stopped the run"
        time.sleep(0.001)


def test_a_request_that_was_cancelled_before_reads_nothing(model: SpeechLM) -> None:
    cancellation = Cancellation()
    assert not cancellation.cancelled
    cancellation.cancel()
    cancellation.cancel()
    assert cancellation.cancelled
    for call in (model.generate, model.stream, model.encode):
        with pytest.raises(RequestCancelled, match="the request was cancelled before its first stage, 0"):
            call("nowhere.wav", cancellation=cancellation)


@pytest.mark.parametrize("beams", [1, 3])
def test_no_step_begins_after_the_one_in_which_a_request_is_cancelled(
    model: SpeechLM, monkeypatch: pytest.MonkeyPatch, beams: int
) -> None:
    decode, cancellation, steps = sessions_of(model)["step"], Cancellation(), 0
    run = decode.run

    def cancelling(inputs: Any) -> Any:
        nonlocal steps
        steps += 1
        outputs = run(inputs)
        if steps == 3:
            cancellation.cancel()
        return outputs

    monkeypatch.setattr(decode, "run", cancelling)
    with pytest.raises(RequestCancelled, match="cancelled after stage step"):
        model.generate(SOUND, "hello", cancellation=cancellation, num_beams=beams, **ASKED)
    assert steps == 3


@pytest.mark.parametrize("stage", ["encoder", "prefill", "step"])
@pytest.mark.parametrize("beams", [1, 3])
def test_a_run_is_stopped_from_another_thread(
    model: SpeechLM, answer: Any, stage: str, beams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancellation = Cancellation()
    with monkeypatch.context() as patch:
        act = from_another_thread(cancellation.cancel)
        runs = at_run(patch, sessions_of(model)[stage], act, number=2 if stage == "step" else 1)
        with pytest.raises(RequestCancelled, match=f"the request was cancelled in stage {stage}") as caught:
            model.generate(SOUND, "hello", cancellation=cancellation, num_beams=beams, **ASKED)
    assert runs[-1].terminate
    assert "terminate flag" in str(caught.value.__cause__)
    assert not cancellation._stops
    assert found(model.generate(SOUND, "hello", **ASKED)) == answer


def test_a_signal_handler_may_cancel() -> None:
    """Even in the moment in which its own thread holds the lock."""
    cancellation = Cancellation()
    before = signal.signal(signal.SIGUSR1, lambda *_: cancellation.cancel())
    try:
        with cancellation._lock:
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert cancellation.cancelled


def test_a_long_prefill_ends_within(model: SpeechLM) -> None:
    """The flag is set while the graph runs, not before."""
    audio, stopped, tries = model.encode(noise(35.0)), False, 0
    while not stopped and tries < 100:
        part, tries = (1 + tries % 9) / 10, tries + 1
        cancellation, begin = Cancellation(), time.perf_counter()
        model.generate(audio, "hello", max_new_tokens=1)
        timer = threading.Timer(part * (time.perf_counter() - begin), cancellation.cancel)
        timer.start()
        try:
            model.generate(audio, "hello", max_new_tokens=1, cancellation=cancellation)
        except RequestCancelled as error:
            stopped = "terminate flag" in str(error.__cause__)
        timer.join()
    assert stopped


def test_a_deadline_stops_a_run(model: SpeechLM, answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = model.encode(SOUND)
    with monkeypatch.context() as patch:
        at_run(patch, sessions_of(model)["prefill"], wait_for_stop)
        with pytest.raises(DeadlineExceeded, match="the deadline of 5 s passed in stage prefill") as caught:
            model.generate(audio, "hello", deadline=5, **ASKED)
    assert isinstance(caught.value, RequestCancelled)
    assert isinstance(caught.value, TimeoutError)
    assert found(model.generate(audio, "hello", deadline=1e6, **ASKED)) == answer


def test_a_deadline_is_looked_at_between_tokens(model: SpeechLM, monkeypatch: pytest.MonkeyPatch) -> None:
    late = 0.0
    monkeypatch.setattr(guard_module, "CLOCK", lambda: time.perf_counter() + late)

    def be_late(options: Any) -> None:
        nonlocal late
        late = 100.0

    runs = at_run(monkeypatch, sessions_of(model)["step"], be_late, number=2)
    with pytest.raises(DeadlineExceeded, match="the deadline of 90 s passed after stage step, 1"):
        model.generate(SOUND, "hello", deadline=90, **ASKED)
    assert len(runs) == 2


@pytest.mark.parametrize("deadline", [0, -1.0, float("nan"), float("inf"), True, "3", 10**400])
def test_a_deadline_that_is_no_time(model: SpeechLM, deadline: Any) -> None:
    with pytest.raises(RequestError, match=r"deadline is .*: give seconds from the start, above 0"):
        model.generate(SOUND, "hello", deadline=deadline)


def test_a_cancellation_that_is_none(model: SpeechLM) -> None:
    with pytest.raises(RequestError, match="cancellation is 'now': give a Cancellation"):
        model.generate(SOUND, "hello", cancellation="now")  # type: ignore[arg-type]


def test_audio_is_not_decoded_on(model: SpeechLM, monkeypatch: pytest.MonkeyPatch) -> None:
    cancellation = Cancellation()
    monkeypatch.setattr(MemoryLimit, "of_encoding", lambda memory, place, seconds: cancellation.cancel())
    with pytest.raises(RequestCancelled, match="in stage audio"):
        model.encode(SOUND, cancellation=cancellation)


def test_a_stream_that_another_thread_closes(
    model: SpeechLM, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stream = model.stream(SOUND, "hello", **ASKED)
        at_run(patch, sessions_of(model)["step"], from_another_thread(stream.close), number=3)
        with pytest.raises(RequestCancelled, match="cancelled in stage step"):
            list(stream)
        assert list(stream) == []
        with pytest.raises(RequestError, match="closed or failed before its end"):
            _ = stream.result
    again = model.stream(SOUND, "hello", **ASKED)
    list(again)
    assert found(again.result) == answer


def test_a_stream_is_cancelled_between_its_pieces(model: SpeechLM) -> None:
    cancellation = Cancellation()
    stream = model.stream(SOUND, "hello", cancellation=cancellation, **ASKED)
    next(stream)
    cancellation.cancel()
    with pytest.raises(RequestCancelled, match="after stage"):
        list(stream)


def test_a_stage_is_over_when_a_piece_is_read(model: SpeechLM) -> None:
    """Another request of the reader is not stopped by the stream's cancellation."""
    stream = model.stream(SOUND, "hello", **ASKED)
    next(stream)
    assert guard_module.current_guard() is None
    stream.close()


def test_an_answer_is_the_same_with_a_cancellation_and_options_are_shared_without(
    model: SpeechLM, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = sessions_of(model)
    runs = {name: at_run(monkeypatch, session, lambda _: None) for name, session in sessions.items()}
    assert found(model.generate(SOUND, "hello", **ASKED)) == answer
    assert all(options is sessions[name]._run_options for name in runs for options in runs[name])
    for of_session in runs.values():
        of_session.clear()
    assert found(model.generate(SOUND, "hello", cancellation=Cancellation(), **ASKED)) == answer
    own = [options for of_session in runs.values() for options in of_session]
    assert len({id(options) for options in own}) == len(own) > 3


def test_a_coroutine_gives_the_answer_or_the_error(model: SpeechLM, answer: Any) -> None:
    assert found(asyncio.run(model.agenerate(SOUND, "hello", **ASKED))) == answer
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(RequestCancelled, match="before its first stage"):
        asyncio.run(model.agenerate(SOUND, "hello", cancellation=cancellation))
    with pytest.raises(RequestError, match="option beams is unknown"):
        asyncio.run(model.agenerate(SOUND, "hello", beams=2))


@pytest.mark.parametrize("stage", ["encoder", "prefill", "step"])
def test_a_request_ends_with_its_task(
    model: SpeechLM, answer: Any, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cancelled() -> None:
        loop, running = asyncio.get_running_loop(), asyncio.Event()

        def act(options: Any) -> None:
            loop.call_soon_threadsafe(running.set)
            wait_for_stop(options)

        runs = at_run(patch, sessions_of(model)[stage], act)
        task = asyncio.create_task(model.agenerate(SOUND, "hello", **ASKED))
        await running.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(runs) == 1  # and it has ended
        assert runs[0].terminate

    with monkeypatch.context() as patch:
        asyncio.run(cancelled())
    assert found(model.generate(SOUND, "hello", **ASKED)) == answer


def test_a_task_that_waits_for_a_thread_ends_at_once(model: SpeechLM) -> None:
    async def waiting() -> None:
        free = threading.Event()
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        blocker = loop.run_in_executor(None, free.wait)
        task = asyncio.create_task(model.agenerate("nowhere.wav"))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        free.set()
        await blocker

    asyncio.run(waiting())


def test_other_requests_go_on(model: SpeechLM, answer: Any) -> None:
    """One cancellation for all requests of a thread, and none for those of another that runs beside it."""
    cancellation, both_answer = Cancellation(), threading.Barrier(3)
    end = time.monotonic() + LONG_WAIT

    def ask(own: Cancellation | None, is_over: Callable[[], bool]) -> None:
        assert found(model.generate(SOUND, "hello", cancellation=own, **ASKED)) == answer
        both_answer.wait(LONG_WAIT)
        while not is_over():
            assert found(model.generate(SOUND, "hello", cancellation=own, **ASKED)) == answer

    with ThreadPoolExecutor(2) as pool:
        stopped = pool.submit(ask, cancellation, lambda: time.monotonic() > end)
        others = pool.submit(ask, None, stopped.done)
        both_answer.wait(LONG_WAIT)
        cancellation.cancel()
        with pytest.raises(RequestCancelled):
            stopped.result()
        others.result()


def test_any_moment_leaves_nothing_and_spoils_nothing(model: SpeechLM, answer: Any) -> None:
    whole, draw, ended = min(_seconds(model, answer) for _ in range(5)), random.Random(0), 0
    threads = set(threading.enumerate())
    for number in range(MOMENTS):
        moment, cancellation, begin = draw.uniform(1e-6, whole), Cancellation(), time.perf_counter()
        try:
            if number % 4 == 0:
                result = model.generate(SOUND, "hello", deadline=moment, **ASKED)
            else:
                result = _cancelled_after(moment, cancellation, model, streamed=number % 2 == 0)
        except RequestCancelled:
            ended += 1
        else:
            whole = min(whole, time.perf_counter() - begin)
            assert found(result) == answer
        assert set(threading.enumerate()) <= threads
        assert not cancellation._stops
    assert ended > MOMENTS // 4
    assert found(model.generate(SOUND, "hello", **ASKED)) == answer
    gc.collect()
    assert not [it for it in gc.get_objects() if type(it) in (Request, guard_module.Guard)]


def _seconds(model: SpeechLM, answer: Any) -> float:
    """What an answer takes."""
    begin = time.perf_counter()
    assert found(model.generate(SOUND, "hello", **ASKED)) == answer
    return time.perf_counter() - begin


def _cancelled_after(
    moment: float, cancellation: Cancellation, model: SpeechLM, streamed: bool
) -> GenerationResult:
    timer = threading.Timer(moment, cancellation.cancel)
    timer.start()
    try:
        if not streamed:
            return model.generate(SOUND, "hello", cancellation=cancellation, **ASKED)
        stream = model.stream(SOUND, "hello", cancellation=cancellation, **ASKED)
        list(stream)
        return stream.result
    finally:
        timer.cancel()
        timer.join()


def test_the_errors_are_of_the_project() -> None:
    assert issubclass(DeadlineExceeded, RequestCancelled)
    assert issubclass(RequestCancelled, FastAdaSPError)


@pytest.mark.parametrize("how", [[], ["--stream"], ["--json"]], ids=["plain", "stream", "json"])
def test_the_command_names_clips_that_take_too_long(tiny_artifact: Any, clip: Any, how: list[str]) -> None:
    words = ["run", str(tiny_artifact), str(clip), "--prompt", "hello", "--threads", "1", *how]
    one = CliRunner().invoke(main, [*words, "--deadline", "1e-9"])
    assert one.exit_code == 2
    assert "Error: the deadline of 1e-09 s passed before its first stage" in one.output
    several = CliRunner().invoke(main, [*words, str(clip), "--deadline", "1e-9"])
    assert several.exit_code == 1
    assert several.output.count(f"Error: {clip}: the deadline of 1e-09 s passed") == 2
    enough = CliRunner().invoke(main, [*words, "--max-new-tokens", "2", "--deadline", "1000"])
    assert enough.exit_code == 0, enough.output
    refused = CliRunner().invoke(main, [*words, "--deadline", "0"])
    assert refused.exit_code == 2
    assert "deadline is 0.0: give seconds from the start, above 0" in refused.output
