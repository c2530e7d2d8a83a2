"""A request whose replica dies is sent again, and its client reads every word once; no Ray is needed here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from fastadasp.profiles.errors import (
    AudioError,
    DeadlineExceeded,
    EngineError,
    QueueFullError,
    WorkerError,
)
from fastadasp.runtime.decoding.options import SearchOptions
from fastadasp.serving.metrics import Metrics
from fastadasp.serving.pool.messages import Answer, Asked, Began, Ended, Event, Failed, Piece
from fastadasp.serving.ray import pool as pool_of_ray
from fastadasp.serving.ray.pool import RayPool

ASKED = Asked("full", None, None, SearchOptions(), "whole", in_pieces=True)
PATIENCE = 60.0  # seconds for what takes milliseconds
END = Answer("full", "a b", "stop", 1.0, 5, 2, None)
WHOLE = (Began(0, "full", None), Piece(0, "a"), Piece(0, " b"), Ended(0, END))


class DiedError(Exception):
    """What Ray would raise."""


class Replicas:
    """A handle: each request gets the next of these lists; None is the death of a replica.

    Another error is raised, and an empty tuple ends the answer.
    """

    def __init__(self, *answers: list[Event | Exception | tuple[()] | None]) -> None:
        self.answers, self.asked, self.cancelled = list(answers), list[tuple[Any, ...]](), 0
        self.answer = self

    def options(self, **_: Any) -> Replicas:
        return self

    def remote(self, *asked: Any) -> Replicas:
        self.asked.append(asked)
        return self

    async def __aiter__(self) -> AsyncIterator[Event]:
        for event in self.answers.pop(0):
            if event is None:
                raise DiedError
            if isinstance(event, Exception):
                raise event
            if event == ():
                return
            yield event
        await asyncio.Event().wait()  # it says no more

    def cancel(self) -> None:
        self.cancelled += 1


@pytest.fixture(autouse=True)
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_of_ray, "lost", lambda: (DiedError,))


def told(replicas: Replicas, **settings: Any) -> list[Event]:
    """What a client of one request is told."""

    async def ask(pool: RayPool) -> list[Event]:
        return [event async for event in pool.submit(ASKED, b"audio").events()]

    found: list[Event] = run(replicas, ask, **settings)
    return found


def run(
    replicas: Replicas,
    work: Callable[[RayPool], Coroutine[Any, Any, Any]],
    *,
    most: int = 4,
    deadline: float = 60.0,
) -> Any:
    async def main() -> Any:
        return await work(RayPool(replicas, most, 3, deadline, Metrics()))

    return asyncio.run(main())


def test_what_a_replica_says_is_told() -> None:
    replicas = Replicas([*WHOLE])
    assert told(replicas) == list(WHOLE)
    assert [asked[1:3] for asked in replicas.asked] == [(ASKED, b"audio")]


@pytest.mark.parametrize("said", range(len(WHOLE)))
def test_another_replica_goes_on_where_a_dead_one_was(said: int) -> None:
    replicas = Replicas([*WHOLE[:said], None], [*WHOLE])
    assert told(replicas) == list(WHOLE)
    assert len(replicas.asked) == 2


def test_replicas_may_die_before_they_get_as_far_as_the_first_one() -> None:
    assert told(Replicas([*WHOLE[:3], None], [*WHOLE[:1], None], [*WHOLE])) == list(WHOLE)


def test_a_request_that_kills_replicas_fails() -> None:
    with pytest.raises(WorkerError, match="3 replicas that had this request have died"):
        told(Replicas([None], [None], [None], [*WHOLE]))


def test_other_words_than_those_that_were_sent_are_no_answer() -> None:
    with pytest.raises(WorkerError, match="found other words"):
        told(Replicas([*WHOLE[:2], None], [WHOLE[0], Piece(0, "x"), WHOLE[3]]))


def test_a_fault_of_a_request_is_not_tried_again() -> None:
    replicas = Replicas([Failed(0, AudioError("no audio"))], [*WHOLE])
    with pytest.raises(AudioError):
        told(replicas)
    assert len(replicas.asked) == 1


@pytest.mark.parametrize("end", [(), ValueError("of Ray, or of the program")])
def test_a_request_that_ends_without_an_answer_holds_up_nobody(
    end: Exception | tuple[()], caplog: pytest.LogCaptureFixture
) -> None:
    async def ask(pool: RayPool) -> None:
        events = pool.submit(ASKED, b"audio").events()
        assert await anext(events) == WHOLE[0]
        with pytest.raises(EngineError):
            await asyncio.wait_for(anext(events), PATIENCE)

    run(Replicas([WHOLE[0], end]), ask)
    assert "has ended without an answer" in caplog.text


def test_a_replica_that_says_nothing_is_waited_for_until_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def ask(pool: RayPool) -> None:
        with pytest.raises(DeadlineExceeded):
            async for _ in pool.submit(ASKED, b"audio").events():
                pass
        assert pool._metrics.failed.labels("DeadlineExceeded")._value.get() == 1

    monkeypatch.setattr(pool_of_ray, "GRACE", 0.0)
    replicas = Replicas([WHOLE[0]])
    run(replicas, ask, deadline=0.05)
    assert replicas.cancelled


def test_a_replica_that_has_answered_misses_no_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its answer is not closed before that passes."""

    async def ask(pool: RayPool) -> None:
        assert [event async for event in pool.submit(ASKED, b"audio").events()] == list(WHOLE)
        while pool._tasks:
            await asyncio.sleep(0)
        assert pool._metrics.failed.labels("DeadlineExceeded")._value.get() == 0

    monkeypatch.setattr(pool_of_ray, "GRACE", 0.0)
    run(Replicas([*WHOLE]), ask, deadline=1.0)


def test_a_client_that_goes_ends_its_request_and_gives_its_place_to_another() -> None:
    async def leave(pool: RayPool) -> None:
        ticket = pool.submit(ASKED, b"audio")
        assert await anext(ticket.events()) == WHOLE[0]
        with pytest.raises(QueueFullError, match="1 requests run or wait"):
            pool.submit(ASKED, b"audio")
        pool.leave(ticket)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        second = pool.submit(ASKED, b"audio")
        assert [event async for event in second.events()] == list(WHOLE)

    replicas = Replicas([WHOLE[0]], [*WHOLE])
    run(replicas, leave, most=1)
    assert replicas.cancelled == 2
