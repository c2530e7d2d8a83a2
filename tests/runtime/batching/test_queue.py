"""The queue of requests itself: what ends one that waits, and what is handed over as the model closes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import nullcontext
from typing import Any, cast

import pytest

from conftest import noise
from fastadasp.profiles.errors import EngineError, QueueFullError, RequestCancelled, RequestError
from fastadasp.runtime import Cancellation, SpeechLM
from fastadasp.runtime.batching.queue import RequestQueue
from fastadasp.runtime.batching.submitted import Submitted
from fastadasp.runtime.cancellation.guard import new_guard

LONG_WAIT = 60.0  # seconds, for what takes milliseconds


@pytest.fixture
def queue() -> Iterator[RequestQueue]:
    queue = RequestQueue(1, None, lambda: None)
    yield queue
    queue.close()


@pytest.mark.parametrize("part", [False, True])
def test_what_cancels_the_guard_cancels_a_request_that_waits(queue: RequestQueue, part: bool) -> None:
    """Also where it is a part of one, as a segment is."""
    free, cancellation = threading.Event(), Cancellation()
    running = queue.submit(lambda: cast("Any", free.wait(LONG_WAIT)), new_guard(None, None))
    guard = new_guard(cancellation, None)
    waiting = queue.submit(lambda: cast("Any", None), guard.of_part() if part else guard)
    assert not waiting.done
    cancellation.cancel()
    assert waiting.done
    with pytest.raises(RequestCancelled, match="before its first stage"):
        waiting.result(timeout=0)
    assert not cancellation._stops
    assert not guard.own._stops
    free.set()
    assert running.result(LONG_WAIT) is True


@pytest.mark.parametrize("fails", [False, True])
def test_a_request_whose_result_is_there_takes_no_place(fails: bool) -> None:
    """Also while its thread has something left to do."""
    queue, submitted, left = RequestQueue(1, 0, lambda: None), threading.Event(), threading.Event()

    class Late(Cancellation):
        def discard(self, stop: Any) -> None:
            assert left.wait(LONG_WAIT)
            super().discard(stop)

    def call() -> Any:
        assert submitted.wait(LONG_WAIT)
        if fails:
            raise EngineError("no memory")

    one = queue.submit(call, new_guard(Late(), None))
    with pytest.raises(QueueFullError):
        queue.submit(call, new_guard(None, None))
    submitted.set()
    with pytest.raises(EngineError) if fails else nullcontext():
        one.result(LONG_WAIT)
    other = queue.submit(lambda: cast("Any", 1), new_guard(None, None))
    left.set()
    assert other.result(LONG_WAIT) == 1
    queue.close()


def test_a_request_that_was_cancelled_while_it_waited_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the thread that cancels it is not done: who waits for it knows by then."""
    queue, free, cancellation = RequestQueue(1, 1, lambda: None), threading.Event(), Cancellation()
    others, end = list[Submitted](), Future._invoke_callbacks  # type: ignore[attr-defined]

    def submit_another(future: Any) -> None:
        if future.cancelled() and not others:
            others.append(queue.submit(lambda: cast("Any", 1), new_guard(None, None)))
        end(future)

    monkeypatch.setattr(Future, "_invoke_callbacks", submit_another)
    queue.submit(lambda: cast("Any", free.wait(LONG_WAIT)), new_guard(None, None))
    queue.submit(lambda: cast("Any", None), new_guard(cancellation, None))
    with pytest.raises(QueueFullError):
        queue.submit(lambda: cast("Any", None), new_guard(None, None))
    cancellation.cancel()
    free.set()
    assert [other.result(LONG_WAIT) for other in others] == [1]
    queue.close()


def test_a_request_may_end_while_another_one_is_submitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal may end it in the very thread that looks whether there is room."""
    queue, free, cancellation = RequestQueue(1, 1, lambda: None), threading.Event(), Cancellation()
    cancelled = Future.cancelled
    queue.submit(lambda: cast("Any", free.wait(LONG_WAIT)), new_guard(None, None))
    queue.submit(lambda: cast("Any", None), new_guard(cancellation, None))

    def interrupted(future: Any) -> bool:
        monkeypatch.setattr(Future, "cancelled", cancelled)
        cancellation.cancel()
        return future.cancelled()

    monkeypatch.setattr(Future, "cancelled", interrupted)
    other = queue.submit(lambda: cast("Any", 1), new_guard(None, None))
    free.set()
    assert other.result(LONG_WAIT) == 1
    queue.close()


def test_a_request_that_comes_as_the_model_closes_is_refused_by_name(
    tiny_artifact: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had looked whether the model is open just before."""
    model, search = SpeechLM.load(tiny_artifact, threads=1), SpeechLM._search

    def closing(model: SpeechLM, *given: Any) -> Any:
        model.close()
        return search(model, *given)

    monkeypatch.setattr(SpeechLM, "_search", closing)
    with pytest.raises(RequestError, match="the model is closed; load the artifact again"):
        model.submit(noise(1.0), "hello")
