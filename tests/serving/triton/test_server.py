"""A model repository in Triton Inference Server itself: `make triton-test` gives it one."""

from __future__ import annotations

import base64
import json
import queue
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tritonclient.grpc as triton  # type: ignore[import-untyped]
from click.testing import CliRunner

from fastadasp.export.cli import main
from fastadasp.runtime import SpeechLM

from .triton_server import VENV, Server, serving

pytestmark = pytest.mark.skipif(VENV is None, reason="needs nvidia-pytriton: make triton-test")
WAIT = 60
TOKENS = 8
KINDS = {bytes: ("BYTES", object), bool: ("BOOL", bool), int: ("INT32", np.int32)}


class Answer(NamedTuple):
    pieces: list[str]
    finish_reason: str

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@pytest.fixture(scope="module")
def server(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("triton")
    command = ["export-triton", str(tiny_artifact), "-o", str(folder / "models"), "--name", "speech"]
    assert CliRunner().invoke(main, [*command, "--max-batch", "4"]).exit_code == 0
    with serving(folder / "models", folder) as found:
        yield found


@pytest.fixture
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.grpc) as found:
        yield found


@pytest.fixture(scope="module")
def expected(tiny_artifact: Path, clip: Path) -> dict[str, str]:
    with SpeechLM.load(tiny_artifact, threads=1) as model:
        return {
            name: model.generate(clip, "transcribe", profile=name, max_new_tokens=TOKENS).text
            for name in model.profiles
        }


def tensor(name: str, value: Any) -> triton.InferInput:
    kind, dtype = KINDS[type(value)]
    found = triton.InferInput(name, [1], kind)
    found.set_data_from_numpy(np.array([value], dtype=dtype))
    return found


def ask(client: triton.InferenceServerClient, **inputs: Any) -> Answer:
    """What a client of gRPC gets; an error is raised."""
    came: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: came.put((result, error)))
    try:
        given = [tensor(name, value) for name, value in inputs.items()]
        client.async_stream_infer("speech", given, enable_empty_final_response=True)
        pieces, reason = list[str](), ""
        while True:
            result, error = came.get(timeout=WAIT)
            if error is not None:
                raise error
            if (text := result.as_numpy("TEXT")) is not None:
                pieces.append(text[0].decode())
                reason = result.as_numpy("FINISH_REASON")[0].decode()
            if result.get_response().parameters["triton_final_response"].bool_param:
                return Answer(pieces, reason)
    finally:
        client.stop_stream()


def post(server: Server, path: str, **inputs: Any) -> str:
    request = urllib.request.Request(f"{server.http}/v2/models/speech/{path}", json.dumps(inputs).encode())
    with urllib.request.urlopen(request, timeout=WAIT) as response:
        found: bytes = response.read()
    return found.decode()


def test_a_clip_is_streamed_over_grpc_under_each_profile(
    client: triton.InferenceServerClient, clip: Path, expected: dict[str, str]
) -> None:
    for profile, text in expected.items():
        asked = {"PROMPT": b"transcribe", "PROFILE": profile.encode(), "MAX_NEW_TOKENS": TOKENS}
        pieces = ask(client, AUDIO=clip.read_bytes(), **asked)
        assert len(pieces.pieces) > 2
        assert pieces.text == text
        whole = ask(client, AUDIO=clip.read_bytes(), STREAM=False, **asked)
        assert whole == ([text], pieces.finish_reason)


def test_a_clip_is_streamed_over_http(server: Server, clip: Path, expected: dict[str, str]) -> None:
    audio = base64.b64encode(clip.read_bytes()).decode()
    asked = {"AUDIO_BASE64": audio, "PROMPT": "transcribe", "MAX_NEW_TOKENS": TOKENS}
    events = post(server, "generate_stream", **asked).split("\n\n")
    pieces = [json.loads(event.removeprefix("data: "))["TEXT"] for event in events if event]
    assert len(pieces) > 2
    assert "".join(pieces) == expected["full"]
    assert json.loads(post(server, "generate", **asked, STREAM=False))["TEXT"] == expected["full"]


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"AUDIO": b"junk"}, "unknown format"),
        ({"PROFILE": b"none"}, "profile 'none'"),
        ({"NUM_BEAMS": 3}, "num_beams is 3"),
    ],
)
def test_faults_of_a_request_are_told(
    client: triton.InferenceServerClient, clip: Path, inputs: dict[str, Any], reason: str
) -> None:
    with pytest.raises(triton.InferenceServerException, match=reason):
        ask(client, **{"AUDIO": clip.read_bytes(), **inputs})


def test_a_fault_of_a_request_is_a_bad_request_over_http(server: Server) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(server, "generate_stream", AUDIO_BASE64="no!")
    with refused.value as response:
        assert response.code == 400
        assert b"no Base64" in response.read()


def test_a_client_that_goes_cancels_its_request_and_the_model_goes_on(
    server: Server, clip: Path, expected: dict[str, str]
) -> None:
    with triton.InferenceServerClient(server.grpc) as leaving:
        came: queue.Queue[Any] = queue.Queue()
        leaving.start_stream(lambda result, error: came.put((result, error)))
        leaving.async_stream_infer("speech", [tensor("AUDIO", clip.read_bytes())])
        assert came.get(timeout=WAIT)[1] is None
        leaving.stop_stream(cancel_requests=True)
    with triton.InferenceServerClient(server.grpc) as client:
        asked = {"PROMPT": b"transcribe", "MAX_NEW_TOKENS": TOKENS}
        assert ask(client, AUDIO=clip.read_bytes(), **asked).text == expected["full"]
