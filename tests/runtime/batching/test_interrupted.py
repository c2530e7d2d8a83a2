"""Errors and Ctrl-C in the thread of one request: those that share its steps go on."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from fastadasp.profiles.errors import DeadlineExceeded, EngineError
from fastadasp.runtime.batching import turns as turns_module
from fastadasp.runtime.batching.shared_steps import SharedSteps
from fastadasp.runtime.batching.turns import Turns
from fastadasp.runtime.cancellation.bell import Bell
from fastadasp.runtime.cancellation.guard import new_guard
from fastadasp.runtime.latency import Stopwatch

LONG_WAIT = 60.0  # seconds, for what takes milliseconds
ROW = np.zeros(1, np.int64)


class Member:
    left = False


class Batch:
    """One that only counts; each of its methods may fail once."""

    def __init__(self) -> None:
        self.fails: dict[str, BaseException] = {}
        self.begun = threading.Semaphore(0)
        self.sizes: list[int] = []

    def member_of(self, prefix: object) -> Any:
        return Member()

    def join(self, member: object, prefix: object) -> None:
        self._at("join")

    def sweep(self) -> None:
        self._at("sweep")

    def clear(self) -> None:
        pass

    def step(self, asked: list[Any]) -> list[Any]:
        self.begun.release()
        self._at("step")
        self.sizes.append(len(asked))
        return [object() for _ in asked]

    def _at(self, method: str) -> None:
        if method in self.fails:
            raise self.fails.pop(method)


@pytest.fixture
def batch() -> Batch:
    return Batch()


@pytest.fixture
def steps(batch: Batch) -> SharedSteps:
    return SharedSteps(cast("Any", batch), Turns())


@pytest.fixture(autouse=True)
def nobody_waits() -> Iterator[None]:
    """No thread of a test outlives it: one that waits for ever would hold up the end of the run."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def ask(steps: SharedSteps, member: Any, found: list[Any]) -> None:
    try:
        found.append(steps.step(member, ROW, ROW, 1))
    except (EngineError, KeyboardInterrupt, ZeroDivisionError) as error:
        found.append(error)


def at_once(steps: SharedSteps, members: list[Any]) -> list[Any]:
    """What the step gives each, in threads of their own."""
    found: list[Any] = []
    threads = [threading.Thread(target=ask, args=(steps, it, found), daemon=True) for it in members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_WAIT)
    assert len(found) == len(members)
    return found


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG_WAIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize("method", ["sweep", "step"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError()])
def test_an_error_in_the_leader_is_told_to_all(
    steps: SharedSteps, batch: Batch, method: str, error: BaseException
) -> None:
    members = [steps.join({}) for _ in range(3)]
    batch.fails[method] = error
    found = at_once(steps, members)
    assert sorted(type(each).__name__ for each in found) == sorted(
        [type(error).__name__, "EngineError", "EngineError"]
    )
    at_once(steps, members)
    assert batch.sizes == [3]


def test_a_leader_that_is_interrupted_while_it_gathers_lets_another_lead(
    steps: SharedSteps, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [steps.join({}) for _ in range(2)]
    gather, begun, found = steps._gather, threading.Event(), list[Any]()

    def interrupted() -> None:
        monkeypatch.setattr(steps, "_gather", gather)
        begun.set()
        until(lambda: len(steps._waiting) == 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(steps, "_gather", interrupted)
    leader = threading.Thread(target=ask, args=(steps, members[0], found), daemon=True)
    leader.start()
    assert begun.wait(LONG_WAIT)
    other = threading.Thread(target=ask, args=(steps, members[1], answers := []), daemon=True)
    other.start()
    leader.join(LONG_WAIT)
    steps.leave(members[0])
    other.join(LONG_WAIT)
    assert [type(each) for each in found] == [KeyboardInterrupt]
    assert [type(each) for each in answers] == [object]


@pytest.mark.parametrize("method", ["sweep", "join"])
def test_who_cannot_join_is_waited_for_by_nobody(steps: SharedSteps, batch: Batch, method: str) -> None:
    member = steps.join({})
    batch.fails[method] = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        steps.join({})
    assert len(steps) == 1
    at_once(steps, [member])
    assert batch.sizes == [1]


def test_a_turn_that_is_interrupted_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """While its thread waits for it."""
    turns, errors = Turns(), list[BaseException]()

    class Interrupted:
        def wait(self, seconds: float | None = None) -> bool:
            raise KeyboardInterrupt

    def run() -> None:
        try:
            with turns.take("step"):
                pass
        except KeyboardInterrupt as error:
            errors.append(error)

    monkeypatch.setattr(turns_module, "_Turn", lambda: SimpleNamespace(granted=False, woken=Interrupted()))
    with turns.take("prefill"):
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(LONG_WAIT)
    assert len(errors) == 1
    with turns.take("prefill"):
        assert not any(turns._waiting.values())


@contextmanager
def short_step() -> Iterator[None]:
    """A stage that begins in time, on a busy machine too, and then has little left."""
    guard = new_guard(None, 1e6)
    with Stopwatch(guard).stage("step"):
        guard._deadline = 0.05
        yield


def test_a_deadline_ends_the_wait_for_a_turn_of_a_step() -> None:
    turns = Turns()
    with turns.take("prefill"):
        with pytest.raises(DeadlineExceeded, match="in stage step"), short_step(), turns.take("step"):
            pass
        assert not any(turns._waiting.values())


def test_a_deadline_ends_the_wait_for_a_step_that_another_leads(
    steps: SharedSteps, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    members, ended = [steps.join({}) for _ in range(2)], threading.Event()
    gather = steps._gather

    def held() -> None:
        monkeypatch.setattr(steps, "_gather", gather)
        assert ended.wait(LONG_WAIT)

    monkeypatch.setattr(steps, "_gather", held)
    leader = threading.Thread(target=ask, args=(steps, members[0], found := []), daemon=True)
    leader.start()
    until(lambda: steps._has_leader)
    with pytest.raises(DeadlineExceeded, match="in stage step"), short_step():
        steps.step(members[1], ROW, ROW, 1)
    ended.set()
    leader.join(LONG_WAIT)
    assert [type(each) for each in found] == [object]
    assert batch.sizes == [1]


def test_who_waits_may_be_woken_by_a_signal_handler_of_its_own_thread() -> None:
    """It interrupts the wait while that holds what it waits with."""
    bell = Bell()
    before = signal.signal(signal.SIGALRM, lambda *_: bell.ring())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        assert bell.wait(LONG_WAIT)
    finally:
        signal.signal(signal.SIGALRM, before)
