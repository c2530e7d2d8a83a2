"""Prefills and steps take turns."""

from __future__ import annotations

import threading
import time

import pytest

from fastadasp.profiles.errors import RequestCancelled
from fastadasp.runtime import Cancellation
from fastadasp.runtime.batching.turns import Kind, Turns
from fastadasp.runtime.cancellation.guard import guard_of
from fastadasp.runtime.latency import Stopwatch

LONG_WAIT = 60.0  # seconds, for what takes milliseconds


def waiting(turns: Turns) -> int:
    return sum(map(len, turns._waiting.values()))


def wait_until(number: int, turns: Turns) -> None:
    end = time.monotonic() + LONG_WAIT
    while waiting(turns) != number:
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_step_waits_for_one_prefill_and_a_prefill_for_one_step() -> None:
    turns, order = Turns(), list[str]()

    def run(kind: Kind, name: str) -> None:
        with turns.take(kind):
            order.append(name)

    threads = []
    with turns.take("prefill"):
        for kind, name in (
            ("prefill", "p1"),
            ("prefill", "p2"),
            ("prefill", "p3"),
            ("step", "s1"),
            ("step", "s2"),
        ):
            threads.append(threading.Thread(target=run, args=(kind, name)))
            threads[-1].start()
            wait_until(len(threads), turns)
    for thread in threads:
        thread.join(LONG_WAIT)
    assert order == ["s1", "p1", "s2", "p2", "p3"]
    with turns.take("step"):
        assert waiting(turns) == 0


def test_a_turn_ends_with_an_error() -> None:
    turns = Turns()
    with pytest.raises(ValueError, match="mine"), turns.take("step"):
        raise ValueError("mine")
    with turns.take("prefill"):
        pass


@pytest.mark.parametrize("deadline", [None, 0.05])
def test_who_is_cancelled_waits_no_longer(deadline: float | None) -> None:
    turns, cancellation, errors = Turns(), Cancellation(), list[Exception]()

    def run() -> None:
        watch = Stopwatch(guard_of(cancellation, deadline))
        try:
            with watch.stage("prefill"), turns.take("prefill"):
                pass
        except RequestCancelled as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    with turns.take("step"):
        thread.start()
        if deadline is None:
            wait_until(1, turns)
            cancellation.cancel()
        thread.join(LONG_WAIT)
        assert len(errors) == 1
        assert waiting(turns) == 0
    with turns.take("prefill"):
        pass
