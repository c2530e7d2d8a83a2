"""Requests that share decode steps give the tokens that each gives alone, whoever joins and leaves."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from conftest import noise
from fastadasp.profiles.errors import EngineError, RequestCancelled, RequestError
from fastadasp.runtime import Cancellation, SpeechLM
from fastadasp.runtime.batching import shared_steps
from fastadasp.runtime.batching.buffers import HostBuffers
from fastadasp.runtime.batching.classes import class_of

from .answers import assert_same
from .meeting import meet

LONG_WAIT = 60.0  # seconds, for what takes milliseconds
LENGTHS = 0.5, 1.3, 3.0, 7.0  # seconds


@pytest.fixture(scope="module")
def model(tiny_artifact: Any) -> Iterator[SpeechLM]:
    with SpeechLM.load(tiny_artifact, threads=1, max_batch=6) as model:
        yield model


def drawn(model: SpeechLM, rng: random.Random) -> dict[str, Any]:
    """A request, but for its audio."""
    beams = rng.choice((1, 1, 2, 5))
    return {
        "prompt": rng.choice(("hello", "transcribe the audio")),
        "profile": rng.choice(model.profiles),
        "num_beams": beams,
        "num_return_sequences": rng.randint(1, beams),
        "max_new_tokens": rng.choice((1, 5, 24, 40)),
        **({"eos_token_ids": ()} if rng.random() < 0.5 else {}),
        **({"repetition_penalty": 1.3} if rng.random() < 0.3 else {}),
    }


def test_streams_that_share_steps_have_the_pieces_that_each_has_alone(
    model: SpeechLM, batches: list[int]
) -> None:
    sounds = [noise(length) for length in LENGTHS]
    options: dict[str, Any] = {"prompt": "hello", "max_new_tokens": 12, "eos_token_ids": ()}
    alone = [list(model.stream(sound, **options)) for sound in sounds]
    assert set(batches) == {1}
    begun = threading.Barrier(len(sounds))

    def streamed(sound: Any) -> list[str]:
        stream = model.stream(sound, share_steps=True, **options)
        begun.wait(LONG_WAIT)
        pieces = list(stream)
        assert "".join(pieces) == stream.result.text
        return pieces

    with ThreadPoolExecutor(len(sounds)) as threads:
        assert list(threads.map(streamed, sounds)) == alone
    assert max(batches) > 1


def test_a_stream_that_is_closed_leaves_the_steps_of_the_others(model: SpeechLM) -> None:
    options: dict[str, Any] = {"prompt": "hello", "max_new_tokens": 8, "eos_token_ids": ()}
    wanted = model.generate(noise(1.0), **options).text
    first = model.stream(noise(3.0), share_steps=True, **options)
    next(first)
    other = model.submit(noise(1.0), **options)
    first.close()
    assert other.result(LONG_WAIT).text == wanted


@pytest.mark.parametrize("seed", range(3))
def test_requests_drawn_at_random_are_answered_as_each_is_alone(
    model: SpeechLM, batches: list[int], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    audio = [model.encode(noise(length, seed=i)) for i, length in enumerate(LENGTHS)]
    asked = [(rng.choice(audio), drawn(model, rng)) for _ in range(16)]
    wanted = [model.generate(heard, **options) for heard, options in asked]
    assert set(batches) == {1}
    meet(monkeypatch, model, 6)
    requests = [model.submit(heard, **options) for heard, options in asked]
    for request, alone in zip(requests, wanted, strict=True):
        assert_same(request.result(LONG_WAIT), alone)
    assert max(batches) > 2


def test_threads_of_callers_are_answered_to_the_same_bits(model: SpeechLM, batches: list[int]) -> None:
    heard, asked = model.encode(noise(3.0)), {"max_new_tokens": 20, "eos_token_ids": ()}
    alone = model.generate(heard, "hello", **asked)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: model.generate(heard, "hello", **asked), range(8)))
    assert all(each.hypotheses == alone.hypotheses for each in found)
    assert set(batches) == {1}


def test_who_leaves_frees_its_memory(model: SpeechLM) -> None:
    heard = model.encode(noise(3.0))
    assert model._loaded.batcher is not None
    for request in [model.submit(heard, "hello", max_new_tokens=9) for _ in range(4)]:
        request.result(LONG_WAIT)
    kept = [each for batches in model._loaded.batcher._batches.values() for each in batches]
    assert all(len(each) == 0 and each._batch._buffers is None for each in kept)


def test_a_stream_that_nobody_reads_holds_nobody_up(
    model: SpeechLM, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_steps, "GATHER", 0.01)
    heard, asked = model.encode(noise(3.0)), {"max_new_tokens": 12, "eos_token_ids": ()}
    alone = model.generate(heard, "hello", **asked)
    stream = model.stream(heard, "hello", **asked)
    first = [next(stream), next(stream)]
    assert_same(model.submit(heard, "hello", **asked).result(LONG_WAIT), alone)
    assert "".join([*first, *stream]) == alone.text
    assert_same(stream.result, alone)
    abandoned = model.stream(heard, "hello", **asked)
    next(abandoned)
    del abandoned
    assert_same(model.generate(heard, "hello", **asked), alone)
    assert batches[-1] == 1


def test_a_request_that_is_cancelled_in_a_shared_step_leaves_alone(
    model: SpeechLM, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, asked = model.encode(noise(3.0)), {"max_new_tokens": 24, "eos_token_ids": ()}
    alone = model.generate(heard, "hello", **asked)
    cancellation, run = Cancellation(), model._loaded.sessions.decode.run

    def cancelling(inputs: Any) -> Any:
        if len(inputs["steps"]) == 3 and min(inputs["steps"]) > 3:
            cancellation.cancel()
        return run(inputs)

    monkeypatch.setattr(model._loaded.sessions.decode, "run", cancelling)
    meet(monkeypatch, model, 3)
    others = [model.submit(heard, "hello", **asked) for _ in range(2)]
    gone = model.submit(heard, "hello", cancellation=cancellation, **asked)
    with pytest.raises(RequestCancelled, match=r"(in|after) stage step"):
        gone.result(LONG_WAIT)
    for request in others:
        assert_same(request.result(LONG_WAIT), alone)
    assert {2, 3} <= set(batches)


def ended_at(model: SpeechLM, step: int, number: int, asked: list[dict[str, Any]], alone: list[Any]) -> bool:
    """Whether a request, cancelled before a step of all of them, has no answer; the others have theirs."""
    decode, heard, steps = model._loaded.sessions.decode, model.encode(noise(3.0)), itertools.count()
    requests: list[Any] = []
    submitted, run, ended = threading.Event(), decode.run, []

    def cancelling(inputs: Any) -> Any:
        if next(steps) == step:
            assert submitted.wait(LONG_WAIT)
            requests[number].cancel()
        return run(inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "run", cancelling)
        requests += [model.submit(heard, "hello", **each) for each in asked]
        submitted.set()
        for i, (request, wanted) in enumerate(zip(requests, alone, strict=True)):
            try:
                assert_same(request.result(LONG_WAIT), wanted)
            except RequestCancelled:
                ended.append(i)
    assert ended in ([], [number])
    return bool(ended)


def test_cancelling_at_random_steps_changes_no_other_answer(model: SpeechLM) -> None:
    heard, rng = model.encode(noise(3.0)), random.Random(0)
    asked = [{"max_new_tokens": 12, "eos_token_ids": (), "num_beams": 1 + i % 3} for i in range(5)]
    alone = [model.generate(heard, "hello", **each) for each in asked]
    numbers = range(len(asked))
    assert ended_at(model, 0, rng.choice(numbers), asked, alone)
    for _ in range(23):
        ended_at(model, rng.randrange(20), rng.choice(numbers), asked, alone)
    assert not ended_at(model, 1000, rng.choice(numbers), asked, alone)  # which is never


def test_a_step_that_fails_fails_for_all_and_the_next_ones_run(
    model: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, asked = model.encode(noise(3.0)), {"max_new_tokens": 8, "eos_token_ids": ()}
    alone = model.generate(heard, "hello", **asked)

    def failing(inputs: Any) -> Any:
        raise EngineError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(model._loaded.sessions.decode, "run", failing)
        for request in [model.submit(heard, "hello", **asked) for _ in range(3)]:
            with pytest.raises(EngineError, match="out of memory"):
                request.result(LONG_WAIT)
    assert_same(model.submit(heard, "hello", **asked).result(LONG_WAIT), alone)


def full(self: HostBuffers, needed: Any) -> None:
    raise MemoryError


def test_who_joins_without_memory_fails_alone(model: SpeechLM, monkeypatch: pytest.MonkeyPatch) -> None:
    heard, asked = model.encode(noise(2.0)), {"max_new_tokens": 20, "eos_token_ids": ()}
    alone = model.generate(heard, "hello", **asked)
    stream = model.stream(heard, "hello", share_steps=True, **asked)
    next(stream)
    with monkeypatch.context() as patch:
        patch.setattr(HostBuffers, "fit", full)
        with pytest.raises(EngineError, match="there is no memory for requests that share steps"):
            model.submit(heard, "hello", **asked).result(LONG_WAIT)
        list(stream)
    assert stream.result is not None
    assert_same(stream.result, alone)
    assert_same(model.submit(heard, "hello", **asked).result(LONG_WAIT), alone)


def test_a_step_without_memory_fails_and_the_next_requests_run(
    model: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, asked = model.encode(noise(2.0)), {"max_new_tokens": 20, "eos_token_ids": ()}
    alone = model.generate(heard, "hello", **asked)
    with monkeypatch.context() as patch:
        patch.setattr(HostBuffers, "fit_pool", full)
        for request in [model.submit(heard, "hello", **asked) for _ in range(2)]:
            with pytest.raises(EngineError, match="there is no memory for requests that share steps"):
                request.result(LONG_WAIT)
    assert_same(model.submit(heard, "hello", **asked).result(LONG_WAIT), alone)


def test_scores_that_are_no_numbers_spoil_no_other_request(
    model: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, asked = model.encode(noise(3.0)), {"max_new_tokens": 16, "eos_token_ids": ()}
    alone = model.generate(heard, "hello", **asked)
    bad = model.encode(noise(3.0, seed=1))
    bad.rows[...] = np.nan
    requests = [model.submit(each, "hello", **asked) for each in (heard, bad, heard)]
    with pytest.raises(RequestError, match="not finite"):
        requests[1].result(LONG_WAIT)
    for request in (requests[0], requests[2], model.submit(heard, "hello", **asked)):
        assert_same(request.result(LONG_WAIT), alone)


def test_classes_are_a_factor_of_four_wide() -> None:
    assert class_of(1, 1, 1) == class_of(256, 5, 100) == class_of(100, 8, 64)
    assert class_of(257, 1, 1) == class_of(1024, 1, 1) != class_of(1025, 1, 1)
    assert class_of(9, 9, 1) != class_of(9, 8, 1)
    assert class_of(9, 5, 103) != class_of(9, 5, 102)
