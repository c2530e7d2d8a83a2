"""Requests that are submitted: they wait for a thread, run side by side, and end early like all others."""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from conftest import noise
from fastadasp.profiles.errors import (
    AudioError,
    DeadlineExceeded,
    QueueFullError,
    RequestCancelled,
    RequestError,
)
from fastadasp.runtime import Cancellation, GenerationResult, SpeechLM

SOUND = noise(3.0)
ASKED: dict[str, Any] = {"max_new_tokens": 8, "eos_token_ids": ()}
LONG_WAIT = 60.0  # seconds, for what takes milliseconds


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture
def model(tiny_artifact: Any) -> Iterator[SpeechLM]:
    with SpeechLM.load(tiny_artifact, threads=1, max_batch=2, max_queue=2) as model:
        yield model


class Held:
    """Requests that reach the encoder stay there until they are let go."""

    def __init__(self, model: SpeechLM, monkeypatch: pytest.MonkeyPatch) -> None:
        self.arrived, self._go = threading.Semaphore(0), threading.Event()
        encode = model.audio_encoder.encode

        def held(*arguments: Any) -> Any:
            self.arrived.release()
            assert self._go.wait(LONG_WAIT)
            return encode(*arguments)

        monkeypatch.setattr(model.audio_encoder, "encode", held)

    def wait_for(self, requests: int) -> None:
        for _ in range(requests):
            assert self.arrived.acquire(timeout=LONG_WAIT)

    def let_go(self) -> None:
        self._go.set()


@pytest.fixture
def held(model: SpeechLM, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    held = Held(model, monkeypatch)
    yield held
    held.let_go()


def found(result: GenerationResult) -> Any:
    """What an answer says, without its times."""
    return [hypothesis.tokens for hypothesis in result.hypotheses], result.prefix_lengths


def test_answers_are_those_of_generate(model: SpeechLM) -> None:
    asked = [(profile, beams) for profile in model.profiles[:2] for beams in (1, 3)]
    wanted = [model.generate(SOUND, "hi", profile=p, num_beams=b, **ASKED) for p, b in asked]
    requests = [model.submit(SOUND, "hi", profile=p, num_beams=b, **ASKED) for p, b in asked]
    assert [found(request.result()) for request in requests] == [found(it) for it in wanted]
    assert all(request.done for request in requests)
    assert requests[0].result(timeout=0) is requests[0].result()


def test_faults_of_options_are_told_at_once_and_those_of_audio_by_the_result(model: SpeechLM) -> None:
    with pytest.raises(RequestError, match="num_beams"):
        model.submit(SOUND, "hi", num_beams=0)
    request = model.submit("nowhere.wav", "hi")
    with pytest.raises(AudioError, match="nowhere"):
        request.result(LONG_WAIT)
    assert request.done


def test_so_many_wait_and_no_more(model: SpeechLM, held: Held) -> None:
    running = [model.submit(SOUND, "hi", **ASKED) for _ in range(2)]
    held.wait_for(2)
    waiting = [model.submit(SOUND, "hi", **ASKED) for _ in range(2)]
    with pytest.raises(QueueFullError, match="2 requests run and 2 wait, as max_queue allows: submit again"):
        model.submit(SOUND, "hi", **ASKED)
    assert not any(request.done for request in (*running, *waiting))
    with pytest.raises(TimeoutError, match=r"no answer after 0\.01 s"):
        running[0].result(timeout=0.01)
    waiting[0].cancel()
    assert waiting[0].done
    last = model.submit(SOUND, "hi", **ASKED)
    held.let_go()
    assert len({str(found(request.result())) for request in (*running, waiting[1], last)}) == 1


@pytest.mark.parametrize("timeout", [-1, math.nan, math.inf, "1", True])
def test_a_time_that_nobody_can_wait_is_refused(model: SpeechLM, timeout: Any) -> None:
    request = model.submit(SOUND, "hi", **ASKED)
    with pytest.raises(RequestError, match=r"timeout is .*: give seconds, at least 0, or None"):
        request.result(timeout)
    assert request.result()


@pytest.mark.parametrize("own", [True, False])
def test_a_request_that_waits_is_cancelled_at_once(model: SpeechLM, held: Held, own: bool) -> None:
    for _ in range(2):
        model.submit(SOUND, "hi", **ASKED)
    held.wait_for(2)
    cancellation = Cancellation()
    request = model.submit(SOUND, "hi", cancellation=cancellation, **ASKED)
    request.cancel() if own else cancellation.cancel()
    with pytest.raises(RequestCancelled, match="cancelled before its first stage"):
        request.result(timeout=0)
    assert not cancellation._stops


def test_a_cancellation_of_before_reads_nothing(model: SpeechLM) -> None:
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(RequestCancelled, match="before its first stage"):
        model.submit("nowhere.wav", "hi", cancellation=cancellation).result()


def test_a_request_that_runs_is_cancelled_alone(model: SpeechLM, held: Held) -> None:
    one, other = (model.submit(SOUND, "hi", **ASKED) for _ in range(2))
    held.wait_for(2)
    one.cancel()
    held.let_go()
    with pytest.raises(RequestCancelled, match="was cancelled"):
        one.result(LONG_WAIT)
    assert found(other.result()) == found(model.generate(SOUND, "hi", **ASKED))


def test_a_deadline_counts_the_time_in_the_queue(model: SpeechLM, held: Held) -> None:
    for _ in range(2):
        model.submit(SOUND, "hi", **ASKED)
    held.wait_for(2)
    with pytest.raises(DeadlineExceeded, match=r"the deadline of 0.05 s passed before its first stage"):
        model.submit(SOUND, "hi", deadline=0.05, **ASKED).result()
    with pytest.raises(TimeoutError, match="no answer after"):
        model.submit(SOUND, "hi", deadline=1e6, **ASKED).result(timeout=0.01)

    async def awaited() -> None:
        await model.submit(SOUND, "hi", deadline=0.05, **ASKED)

    with pytest.raises(DeadlineExceeded, match="before its first stage"):
        asyncio.run(awaited())


def test_the_latency_has_the_time_in_the_queue(model: SpeechLM, held: Held) -> None:
    request = model.submit(SOUND, "hi", **ASKED)
    held.wait_for(1)
    with pytest.raises(TimeoutError):
        request.result(timeout=0.05)
    held.let_go()
    assert request.result().latency.request_ms >= 50


def test_requests_are_awaited(model: SpeechLM) -> None:
    async def both() -> list[GenerationResult]:
        return list(await asyncio.gather(*(model.submit(SOUND, "hi", **ASKED) for _ in range(2))))

    wanted = found(model.generate(SOUND, "hi", **ASKED))
    assert [found(result) for result in asyncio.run(both())] == [wanted, wanted]


def test_a_request_ends_with_the_task_that_awaits_it(model: SpeechLM, held: Held) -> None:
    async def run() -> None:
        request = model.submit(SOUND, "hi", **ASKED)
        task = asyncio.ensure_future(request)
        await asyncio.to_thread(held.wait_for, 1)
        task.cancel()
        asyncio.get_running_loop().call_soon(held.let_go)  # the task has been told by then
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(RequestCancelled):
            request.result(timeout=0)

    asyncio.run(run())


def test_closing_cancels_what_runs_and_what_waits(model: SpeechLM, held: Held) -> None:
    requests = [model.submit(SOUND, "hi", **ASKED) for _ in range(4)]
    held.wait_for(2)
    closing = threading.Thread(target=model.close)
    closing.start()
    with pytest.raises(RequestCancelled):
        requests[3].result(LONG_WAIT)
    held.let_go()
    closing.join(LONG_WAIT)
    assert all(request.done for request in requests)
    for request in requests:
        with pytest.raises((RequestCancelled, RequestError)):
            request.result()
    with pytest.raises(RequestError, match="the model is closed"):
        model.submit(SOUND, "hi", **ASKED)


class Runs:
    """Something is done before the so many-th run of the encoder or of a step."""

    def __init__(self, model: SpeechLM, monkeypatch: pytest.MonkeyPatch) -> None:
        self._count, self._act = itertools.count(1), lambda: None
        for part, name in ((model.audio_encoder, "encode"), (model._loaded.sessions.decode, "run")):
            monkeypatch.setattr(part, name, self._acting(getattr(part, name)))

    def act_before(self, number: int, act: Callable[[], None]) -> None:
        """Count anew."""
        self._count, self._act = itertools.count(-number), act

    def _acting(self, run: Callable[..., Any]) -> Callable[..., Any]:
        def acting(*arguments: Any) -> Any:
            if next(self._count) == 0:
                self._act()
            return run(*arguments)

        return acting


def ended_at(model: SpeechLM, runs: Runs, moment: int, wanted: Any) -> bool:
    """Whether one of three requests, cancelled before that run, has no answer; the others have theirs."""
    requests: list[Any] = []
    submitted = threading.Event()

    def cancel() -> None:
        assert submitted.wait(LONG_WAIT)
        requests[moment % 3].cancel()

    runs.act_before(moment, cancel)
    requests += [model.submit(SOUND, "hi", **ASKED) for _ in range(3)]
    submitted.set()
    ended = []
    for i, request in enumerate(requests):
        try:
            assert found(request.result(LONG_WAIT)) == wanted
        except RequestCancelled:
            ended.append(i)
    assert ended in ([], [moment % 3])
    return bool(ended)


def test_cancelling_before_any_run_leaves_nothing(model: SpeechLM, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = found(model.generate(SOUND, "hi", **ASKED))
    runs = Runs(model, monkeypatch)
    assert ended_at(model, runs, 0, wanted)
    for moment in range(1, 24):
        ended_at(model, runs, moment, wanted)
    assert not ended_at(model, runs, 1000, wanted)  # which is never


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "8", 10**6])
def test_a_batch_that_is_no_number_of_requests(tiny_artifact: Any, value: Any) -> None:
    with pytest.raises(RequestError, match="max_batch"):
        SpeechLM.load(tiny_artifact, max_batch=value)


@pytest.mark.parametrize("value", [-1, 1.5, True, "8"])
def test_a_queue_that_is_no_number_of_requests(tiny_artifact: Any, value: Any) -> None:
    with pytest.raises(RequestError, match=r"max_queue is .*: give a whole number, or None"):
        SpeechLM.load(tiny_artifact, max_queue=value)
