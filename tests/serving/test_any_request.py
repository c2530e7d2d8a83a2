"""Whatever a client sends, it gets an answer or is told what is wrong: nothing is a fault of the server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from http.client import BadStatusLine, HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import VALUES, fuzz, mutants
from server_process import NAME, PATIENCE, ServerProcess, form, serving

from .conftest import CLIP, SAID

pytestmark = pytest.mark.fuzz
many = fuzz(40)
AUDIO = CLIP.read_bytes()
TRANSCRIBE, TRANSLATE, CHAT = "/v1/audio/transcriptions", "/v1/audio/translations", "/v1/chat/completions"
PATHS = st.sampled_from([TRANSCRIBE, TRANSLATE, CHAT, "/v1/models", "/v1/models/x", "/metrics", "/", "/%00"])
FORM = "multipart/form-data"
KINDS = (
    *(FORM, f"{FORM}; boundary=", f"{FORM}; boundary={'b' * 300}", f"{FORM}; boundary=B; charset=none"),
    *(f"{FORM}; boundary=B; charset={name}" for name in ("undefined", "punycode", "unicode_escape")),
    *(f'{FORM}; boundary=B; x="', f'{FORM}; boundary=B; x="a\\"'),
    *("application/json", "text/plain", "x", ""),
)
SOUNDS = {"whole": AUDIO, "cut": AUDIO[:5000], "empty": b"", "head": b"RIFF", "none": None}
PART = {"type": "input_audio", "input_audio": {"data": base64.b64encode(AUDIO[:9000]).decode()}}
TEXT = {"type": "text", "text": "<asr>"}
QUESTION = {"model": NAME, "messages": [{"role": "user", "content": [TEXT, PART]}], "stream": False, "n": 1}
FIELDS = {
    "model": NAME,
    "prompt": "<asr>",
    "response_format": "json",
    "temperature": "0",
    "language": "en",
    "stream": "true",
    "num_beams": "2",
    "length_penalty": "1",
    "max_new_tokens": "4",
    "timestamp_granularities[]": "segment",
    "chunking_strategy": "auto",
    "chunking_strategy[threshold]": "0.5",
    "chunking_strategy[silence_duration_ms]": "500",
}
WORDS = st.sampled_from(
    [*FIELDS.values(), "verbose_json", "srt", "text", "", "-1", "1e400", "nan", "0x10", "é", "😀"]
) | st.text(st.characters(codec="utf-8"), max_size=20)


@pytest.fixture(scope="module")
def server(demo_artifact: Path) -> Iterator[ServerProcess]:
    with serving(demo_artifact, "--workers", 1) as server:
        yield server
        with server.client() as client:
            assert client.audio.transcriptions.create(file=("a.flac", AUDIO), model=NAME).text == SAID
        assert server.metric("worker_deaths_total") == 0
        assert server.metric("running_requests") == server.metric("queue_requests") == 0
        assert "Traceback" not in server.log


def fine(server: ServerProcess, method: str, path: str, body: Any, headers: dict[str, str]) -> None:
    """An answer, or a fault of the client in the form that its libraries read."""
    reply = server.ask(method, path, body, headers)
    assert reply.status < 500, reply
    if reply.status >= 400 and method != "HEAD":
        assert reply.error["message"]
        assert reply.error["type"] == "invalid_request_error"


@many
@given(
    fields=st.dictionaries(st.sampled_from([*FIELDS]), WORDS, max_size=6),
    more=st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters='"\r\n'), max_size=5), WORDS
    ),
    audio=st.sampled_from([*SOUNDS]) | st.binary(max_size=200),
    path=st.sampled_from([TRANSCRIBE, TRANSLATE]),
    real=st.booleans(),
)
def test_forms(
    server: ServerProcess,
    fields: dict[str, str],
    more: dict[str, str],
    audio: str | bytes,
    path: str,
    real: bool,
) -> None:
    asked = {"model": NAME, "prompt": "<asr>", **fields} if real else {**fields, **more}
    fine(server, "POST", path, *form(asked, SOUNDS[audio] if isinstance(audio, str) else audio))


@many
@given(
    cuts=st.lists(st.tuples(st.integers(0, 600), st.binary(max_size=8)), max_size=4), end=st.integers(0, 700)
)
def test_damaged_forms(server: ServerProcess, cuts: list[tuple[int, bytes]], end: int) -> None:
    body, headers = form({"model": NAME, "prompt": "<asr>"}, AUDIO[:300])
    for place, content in cuts:
        body = body[:place] + content + body[place + len(content) :]
    fine(server, "POST", TRANSCRIBE, body[:end], headers)


@many
@given(question=mutants(QUESTION) | VALUES)
def test_questions(server: ServerProcess, question: Any) -> None:
    body = json.dumps(question).encode()
    fine(server, "POST", CHAT, body, {"content-type": "application/json"})


@many
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH"]),
    path=PATHS,
    kind=st.sampled_from(KINDS),
    body=st.binary(max_size=300),
)
def test_requests(server: ServerProcess, method: str, path: str, kind: str, body: bytes) -> None:
    fine(server, method, path, body, {"content-type": kind})


@many
@given(
    content=st.binary(max_size=200)
    | st.text("GET POST/HTTP1.: \r\nHost:Transfer-Encoding chunked Content-Length", max_size=100).map(
        str.encode
    )
)
def test_bytes(server: ServerProcess, content: bytes) -> None:
    connection = HTTPConnection(server.host, server.port, timeout=PATIENCE)
    try:
        connection.connect()
        connection.sock.sendall(content + b"\r\n\r\n")
        connection.sock.shutdown(1)
        response = connection.response_class(connection.sock)
        response.begin()
        assert response.status < 500
        response.close()
    except (BadStatusLine, ConnectionError):
        pass  # the server has closed a connection that was none of HTTP
    finally:
        connection.close()
