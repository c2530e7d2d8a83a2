"""The program of a Triton model, against a stand-in for what the server gives it."""

from __future__ import annotations

import base64
import importlib
import json
import queue
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest

from fastadasp.runtime import SpeechLM

FINAL = "final"
WAIT = 60


class Sent(NamedTuple):
    """A response as a client would see it."""

    text: str = ""
    finish_reason: str = ""
    code: str = ""
    message: str = ""


class Tensor:
    def __init__(self, name: str, values: Any) -> None:
        self.name, self._values = name, values

    def as_numpy(self) -> Any:
        return self._values


class TritonError:
    INTERNAL, INVALID_ARG, UNAVAILABLE, CANCELLED = "internal", "invalid", "unavailable", "cancelled"

    def __init__(self, message: str, code: str) -> None:
        self.message, self.code = message, code


class InferenceResponse:
    def __init__(self, tensors: Any = (), error: TritonError | None = None) -> None:
        if error is not None:
            self.sent = Sent(code=error.code, message=error.message)
        else:
            texts = {tensor.name: tensor.as_numpy()[0].decode() for tensor in tensors}
            self.sent = Sent(texts["TEXT"], texts["FINISH_REASON"])


class Request:
    """A request, and where its responses go: `Sent` each, then FINAL."""

    def __init__(self, **inputs: Any) -> None:
        self.inputs, self.responses = inputs, queue.Queue[Any]()
        self.gone = threading.Event()  # the client has
        self.ended = threading.Event()  # its last response was sent
        self.was_asked_late = False  # behind that

    def get_response_sender(self) -> Request:
        return self

    def send(self, response: InferenceResponse | None = None, flags: Any = None) -> None:
        if response is None:
            self.ended.set()
        self.responses.put(FINAL if response is None else response.sent)

    def is_cancelled(self) -> bool:
        self.was_asked_late |= self.ended.is_set()
        return self.gone.is_set()

    def answer(self) -> list[Sent]:
        return list(iter(lambda: self.responses.get(timeout=WAIT), FINAL))


def get_input_tensor_by_name(request: Request, name: str) -> Tensor | None:
    value = request.inputs.get(name)
    return None if value is None else Tensor(name, np.array([value], dtype=object))


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Any:
    server = ModuleType("triton_python_backend_utils")
    for each in (Tensor, TritonError, InferenceResponse, get_input_tensor_by_name):
        setattr(server, each.__name__, each)
    server.TRITONSERVER_RESPONSE_COMPLETE_FINAL = FINAL  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, server.__name__, server)
    monkeypatch.delitem(sys.modules, "fastadasp.serving.triton.model", raising=False)
    return importlib.import_module("fastadasp.serving.triton.model")


@pytest.fixture
def model(program: Any, tiny_artifact: Path, tmp_path: Path) -> Iterator[Any]:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "artifact").symlink_to(tiny_artifact)
    options = json.dumps({"threads": 1, "max_batch": 2, "max_queue": 0})
    parameters = {"profile": {"string_value": "own-30"}, "options": {"string_value": options}}
    found = program.TritonPythonModel()
    found.initialize(
        {
            "model_config": json.dumps({"parameters": parameters}),
            "model_repository": str(tmp_path),
            "model_version": "1",
        }
    )
    yield found
    found.finalize()


def ask(model: Any, **inputs: Any) -> list[Sent]:
    request = Request(**inputs)
    model.execute([request])
    return request.answer()


@pytest.fixture
def expected(tiny_artifact: Path, clip: Path) -> str:
    with SpeechLM.load(tiny_artifact, "own-30", threads=1) as loaded:
        return loaded.generate(clip, "transcribe", max_new_tokens=6).text


def test_text_comes_in_pieces_or_whole(model: Any, clip: Path, expected: str) -> None:
    asked: dict[str, Any] = {"PROMPT": b"transcribe", "MAX_NEW_TOKENS": np.int32(6)}
    pieces = ask(model, AUDIO=clip.read_bytes(), **asked)
    assert len(pieces) > 2
    assert "".join(piece.text for piece in pieces) == expected
    assert pieces[-1].finish_reason in {"stop", "length"}
    encoded = base64.b64encode(clip.read_bytes())
    (whole,) = ask(model, AUDIO_BASE64=encoded, STREAM=np.bool_(False), **asked)
    assert (whole.text, whole.finish_reason) == (expected, pieces[-1].finish_reason)


def test_requests_at_the_same_time_have_their_own_answers(model: Any, clip: Path, expected: str) -> None:
    asked = {"AUDIO": clip.read_bytes(), "PROMPT": b"transcribe", "MAX_NEW_TOKENS": 6, "STREAM": False}
    requests = [Request(**asked), Request(**asked, NUM_BEAMS=3)]
    model.execute(requests)
    (greedy,), (beams,) = (request.answer() for request in requests)
    assert greedy.text == expected
    assert beams.finish_reason


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"AUDIO": b"junk"}, "unknown format"),
        ({}, "give one of AUDIO"),
        ({"AUDIO_BASE64": b"no!"}, "no Base64"),
        ({"AUDIO": ..., "PROFILE": b"none"}, "profile 'none'"),
        ({"AUDIO": ..., "PROMPT": b"\xff"}, "PROMPT is no UTF-8"),
        ({"AUDIO": ..., "NUM_BEAMS": 2}, "num_beams is 2"),
        ({"AUDIO": ..., "STREAM": False, "NUM_BEAMS": -1}, "num_beams"),
    ],
)
def test_faults_of_a_request_are_invalid_arguments(
    model: Any, clip: Path, inputs: dict[str, Any], reason: str
) -> None:
    given = {name: clip.read_bytes() if value is ... else value for name, value in inputs.items()}
    (error,) = ask(model, **given)
    assert error.code == TritonError.INVALID_ARG
    assert reason in error.message


def test_a_request_is_cancelled_when_its_client_has_gone(
    model: Any, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, gone = threading.Event(), Request(AUDIO=clip.read_bytes(), STREAM=False)
    submit = model._model.submit

    def late(*args: Any, cancellation: Any, **keywords: Any) -> Any:
        begun.set()
        while not cancellation.cancelled:
            gone.gone.wait(0.01)
        return submit(*args, cancellation=cancellation, **keywords)

    monkeypatch.setattr(model._model, "submit", late)
    model.execute([gone])
    assert begun.wait(WAIT)
    gone.gone.set()
    (error,) = gone.answer()
    assert error.code == TritonError.CANCELLED


def test_nothing_is_asked_behind_the_last_response(
    model: Any, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {"AUDIO": clip.read_bytes(), "MAX_NEW_TOKENS": 1}
    looked_at, second, stream = threading.Event(), Request(**asked), model._model.stream

    class First(Request):
        def is_cancelled(self) -> bool:
            looked_at.set()
            second.ended.wait(1)  # a server that is slow to tell
            return super().is_cancelled()

    def late(*args: Any, **keywords: Any) -> Any:
        assert looked_at.wait(WAIT)
        return stream(*args, **keywords)

    monkeypatch.setattr(model._model, "stream", late)
    first, third = First(**asked), First(**asked)
    model.execute([first, second])
    assert first.answer()[-1].finish_reason
    assert second.answer()[-1].finish_reason
    looked_at.clear()
    model.execute([third])
    assert third.answer()[-1].finish_reason  # so all have been looked at again
    assert not first.was_asked_late
    assert not second.was_asked_late


def test_a_sender_that_fails_keeps_no_other_from_being_cancelled(
    model: Any, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed, stream = threading.Event(), model._model.stream

    class Failing(Request):
        def is_cancelled(self) -> bool:
            failed.set()
            raise RuntimeError("the server does not say")

    def held(*args: Any, cancellation: Any, **keywords: Any) -> Any:
        while not cancellation.cancelled:
            other.gone.wait(0.01)
        return stream(*args, cancellation=cancellation, **keywords)

    monkeypatch.setattr(model._model, "stream", held)
    failing, other = Failing(AUDIO=clip.read_bytes()), Request(AUDIO=clip.read_bytes())
    model.execute([failing, other])
    assert failed.wait(WAIT)
    other.gone.set()
    (error,) = other.answer()
    assert error.code == TritonError.CANCELLED


def test_more_requests_than_may_wait_are_told_to_come_later(
    model: Any, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()
    stream = model._model.stream

    def held(*args: Any, **keywords: Any) -> Any:
        assert free.wait(WAIT)
        return stream(*args, **keywords)

    monkeypatch.setattr(model._model, "stream", held)
    asked = {"AUDIO": clip.read_bytes(), "MAX_NEW_TOKENS": 2}
    requests = [Request(**asked) for _ in range(3)]
    model.execute(requests)
    (error,) = requests[2].answer()
    assert error.code == TritonError.UNAVAILABLE
    free.set()
    assert all(request.answer()[-1].finish_reason for request in requests[:2])
    assert ask(model, **asked)[-1].finish_reason  # there is room again


def test_a_fault_of_the_program_is_told_and_ends_the_request(
    model: Any, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model._model, "stream", lambda *_, **__: 1 / 0)
    (error,) = ask(model, AUDIO=clip.read_bytes())
    assert (error.code, error.message) == (TritonError.INTERNAL, "division by zero")
