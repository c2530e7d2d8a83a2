"""Who may ask, and how large and slow requests may be."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from openai import APIStatusError, AuthenticationError
from starlette.responses import Response

from fastadasp.profiles.errors import RequestError
from fastadasp.serving import server as server_module
from fastadasp.serving.http import connection, guard
from fastadasp.serving.http.guard import Guard, Limits
from fastadasp.serving.metrics import Metrics
from fastadasp.serving.options import ServeOptions
from server_process import NAME, PATIENCE, ServerProcess, form, serving

from .conftest import CLIP, SAID

KEY, OTHER = "0123456789abcdef", "fedcba9876543210"
UPLOAD = 200_000
TRANSCRIBE = "/v1/audio/transcriptions"
AUDIO_IN = ((TRANSCRIBE, "file"), ("/v1/chat/completions", "messages"))


@pytest.fixture(scope="module")
def server(demo_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"# two of them\n{KEY}\n\n{OTHER}\n")
    options = ("--api-key-file", keys, "--max-upload", "200kB", "--max-audio-seconds", 60, "--workers", 1)
    with serving(demo_artifact, *options) as server:
        yield server
        assert "Traceback" not in server.log


def bearer(key: str = KEY) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_each_key_opens_and_no_other_does(server: ServerProcess) -> None:
    for key in (KEY, OTHER):
        with server.client(key) as client:
            file = ("a.flac", CLIP.read_bytes())
            assert client.audio.transcriptions.create(file=file, model=NAME).text == SAID
    for key in ("wrong", KEY[:-1], f"{KEY}0", "# two of them"):
        with server.client(key) as client, pytest.raises(AuthenticationError) as caught:
            client.models.list()
        assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize("header", [{}, {"authorization": KEY}, {"authorization": f"Basic {KEY}"}])
def test_a_request_without_a_key_is_told_how_to_send_one(
    server: ServerProcess, header: dict[str, str]
) -> None:
    for path in ("/v1/models", "/metrics", "/v1/none"):
        found = server.get(path, **header)
        assert found.status == 401
        assert "Authorization: Bearer KEY" in found.error["message"]
    assert server.get("/health").status == server.get("/ready").status == 200


def test_a_key_is_asked_for_before_the_body_is_read(server: ServerProcess) -> None:
    head = f"POST {TRANSCRIBE} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n".encode()
    assert b"401" in answer_to(server, head)


def answer_to(server: ServerProcess, content: bytes) -> bytes:
    """The first bytes of what comes back."""
    with socket.create_connection((server.host, server.port), timeout=PATIENCE) as opened:
        opened.sendall(content)
        return opened.recv(1 << 16)


def test_what_is_no_http_is_told_so_as_all_other_faults_are(server: ServerProcess) -> None:
    long = b"GET / HTTP/1.1\r\nHost: x\r\nLong: " + b"x" * 70_000
    for content in (b"GET /\r\n\r\n", b"\x16\x03\x01\r\n\r\n", long):
        head, _, body = answer_to(server, content).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert json.loads(body)["error"]["code"] == "invalid_http"


@pytest.mark.parametrize("pause", [False, True])
def test_a_body_that_is_no_http_has_one_answer(server: ServerProcess, pause: bool) -> None:
    """That to its head, if it was sent before; and the log is not for clients to fill."""
    head = f"POST {TRANSCRIBE} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with socket.create_connection((server.host, server.port), timeout=PATIENCE) as opened:
        opened.sendall(head if pause else head + b"no chunk\r\n")
        found = opened.recv(1 << 16)
        if pause:
            opened.sendall(b"no chunk\r\n")
        found += b"".join(iter(lambda: opened.recv(1 << 16), b""))
    assert found.count(b"content-length") == 1
    assert found.startswith(b"HTTP/1.1 401" if pause else b"HTTP/1.1 400")
    assert "Traceback" not in server.log


def test_a_path_is_taken_as_it_is(server: ServerProcess) -> None:
    """A redirect would lead to http, with the key, though the client came by https to a proxy."""
    for path in ("/v1/models/", "/health/", "//v1/models", "/page/../v1/models", "/page/%2e%2e/v1/models"):
        found = server.get(path, **bearer())
        assert (found.status, "location" in found.headers) == (404, False)


def test_a_target_with_scheme_and_host_is_taken_as_its_path(server: ServerProcess) -> None:
    """As RFC 9112, 3.2.2 says; keys are asked for at the paths where they are."""
    for target in (
        "http://localhost:8123/v1/models",
        "HTTPS://x/v1/models?a=http://x/",
        "http://x/v1/%6dodels",
    ):
        assert server.get(target, **bearer()).status == 200
        assert server.get(target).status == 401
    assert server.get("http://localhost:8123").headers["content-type"].startswith("text/html")
    for target in ("http:///v1/models", "ftp://x/v1/models", "http%3a//x/v1/models", "/http://x/v1/models"):
        assert server.get(target, host="x", **bearer()).status == 404


def test_a_client_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "UNREAD_SECONDS", 0.2)
    with server_module._listening(ServeOptions(port=0)) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as opened:
            opened.settimeout(PATIENCE)
            with pytest.raises(OSError, match="timed out") as caught:
                opened.sendall(bytes(1 << 26))
            assert caught.value.errno == errno.ETIMEDOUT


@pytest.mark.parametrize("host", ["a..b", "x" * 70, "\udcff"])
def test_an_address_that_no_host_can_have_is_refused(host: str) -> None:
    options = ServeOptions(host=host, port=0, api_keys=(KEY,))
    with pytest.raises(RequestError, match="port 0: this is no name of a host"):
        server_module._listening(options).__enter__()


@pytest.mark.parametrize(("path", "param"), AUDIO_IN)
def test_a_body_that_says_that_it_is_too_large_is_not_read(
    server: ServerProcess, path: str, param: str
) -> None:
    found = server.ask("POST", path, None, {**bearer(), "content-length": "9999999"})
    assert (found.status, found.error["param"]) == (413, param)


@pytest.mark.parametrize(("path", "param"), AUDIO_IN)
def test_a_body_that_does_not_say_how_large_it_is_is_counted(
    server: ServerProcess, path: str, param: str
) -> None:
    head, headers = form({"model": NAME}, b"")[0].removesuffix(b"\r\n--B--\r\n"), form({}, b"")[1]
    chunks = (head, *[b"\0" * 65536] * 12)  # as many as are heard behind the answer
    if path != TRANSCRIBE:
        headers = {"content-type": "application/json"}
    found = server.ask("POST", path, iter(chunks), {**headers, **bearer()})
    assert (found.status, found.error["code"]) == (413, "content_too_large")
    assert found.error["param"] == param


@pytest.mark.parametrize("size", [UPLOAD + 1, 20_000_000])
def test_a_client_reads_that_its_file_is_too_large(server: ServerProcess, size: int) -> None:
    """Also one that sends all of it before it reads anything."""
    with server.client(KEY) as client, pytest.raises(APIStatusError) as caught:
        client.audio.transcriptions.create(file=("a.wav", bytes(size)), model=NAME)
    assert (caught.value.status_code, caught.value.param) == (413, "file")


@pytest.mark.parametrize(("path", "param"), AUDIO_IN)
def test_a_file_has_a_limit_of_its_own(server: ServerProcess, path: str, param: str) -> None:
    import base64

    audio = b"\0" * (UPLOAD + 1)
    body, headers = form({"model": NAME}, audio)
    if path != TRANSCRIBE:
        part = {"type": "input_audio", "input_audio": {"data": base64.b64encode(audio).decode()}}
        asked = {"model": NAME, "messages": [{"role": "user", "content": [part]}]}
        body, headers = json.dumps(asked).encode(), {"content-type": "application/json"}
    found = server.ask("POST", path, body, {**headers, **bearer()})
    assert (found.status, found.error["param"]) == (413, param)
    assert "200.0 kB" in found.error["message"]


def test_audio_that_is_short_in_bytes_and_long_in_seconds_is_refused(server: ServerProcess) -> None:
    import io

    import numpy as np
    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, np.zeros(3600 * 8000, np.int16), 8000, format="FLAC")
    assert len(stream.getvalue()) < UPLOAD
    for fields in ({}, {"response_format": "srt"}, {"stream": "true"}):
        body, headers = form({"model": NAME, **fields}, stream.getvalue())
        found = server.ask("POST", TRANSCRIBE, body, {**headers, **bearer()})
        assert (found.status, found.error["code"]) == (400, "audio_too_long")
        assert "at most 60 s" in found.error["message"]


def test_slow_and_half_open_uploads_hold_up_nobody(server: ServerProcess) -> None:
    body, headers = form({"model": NAME}, CLIP.read_bytes())
    headers |= {**bearer(), "connection": "close"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {TRANSCRIBE} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode()
    starts = (b"", b"POST /v1", head, head + body[:-100])
    opened = [socket.create_connection((server.host, server.port)) for _ in range(100)]
    try:
        for number, each in enumerate(opened):
            each.sendall(starts[number % len(starts)])
        found = server.ask("POST", TRANSCRIBE, body, headers)
        assert json.loads(found.body)["text"] == SAID
        opened[3].sendall(body[-100:])  # which still gets its answer
        opened[3].settimeout(PATIENCE)
        assert SAID.encode() in b"".join(iter(lambda: opened[3].recv(1 << 16), b""))
    finally:
        for each in opened:
            each.close()


def test_only_this_machine_is_served_without_a_key(demo_artifact: Path) -> None:
    with serving(demo_artifact, "--workers", 1) as server:
        here = f"127.0.0.1:{server.port}"
        assert "for this machine alone, without a key" in "\n".join(server.lines)
        for host in (here, f"localhost:{server.port}", "[::1]:80"):
            assert server.get("/v1/models", host=host).status == 200
        for host in ("example.com", "127.0.0.1.example.com", "[", ""):
            assert server.get("/v1/models", host=host).status in (400, 403)
        assert server.get(f"http://{here}/v1/models", host="example.com").status == 200
        for host in ("example.com", f"{here}@example.com"):
            foreign = server.get(f"http://{host}/v1/models", host=here)
            assert (foreign.status, foreign.error["code"]) == (403, "forbidden")
        assert server.get("/v1/models", host=here, origin=f"http://{here}").status == 200
        for origin in ("http://example.com", "null", "http://[", "http://\u212a".encode().decode("latin-1")):
            foreign = server.get("/v1/models", host=here, origin=origin)
            assert (foreign.status, foreign.error["code"]) == (403, "forbidden")


WHOLE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
CLOSING = WHOLE[:-2] + b"Connection: close\r\n\r\n"
Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[bytes], Awaitable[Opened]]


@asynccontextmanager
async def connections(seconds: float = 0) -> AsyncIterator[Connect]:
    """Opens a connection to an application that answers after a while, and sends something."""

    async def ok(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(seconds)  # an answer under way is not silence
        await Response("ok")(scope, receive, send)

    config = uvicorn.Config(ok, http=connection.Connection, lifespan="off", log_config=None)
    loop, listener = asyncio.get_running_loop(), socket.create_server(("127.0.0.1", 0))
    state = uvicorn.server.ServerState()
    config.load()
    made = await loop.create_server(
        lambda: connection.Connection(config=config, server_state=state, app_state={}), sock=listener
    )

    async def connect(content: bytes) -> Opened:
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(content)
        return reader, writer

    yield connect
    made.close()


async def all_of(opened: Opened) -> bytes:
    """What comes back until the server closes the connection."""
    reader, writer = opened
    found = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    return found


def test_a_flood_of_connections_leaves_files_to_open(demo_artifact: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        server = ServerProcess(demo_artifact, "--name", NAME, "--workers", 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        opened = [socket.socket() for _ in range(300)]
        for each in opened:
            each.setblocking(False)
            each.connect_ex((server.host, server.port))
        server.wait_for(lambda: is_refused(server))
        for each in opened:
            each.close()
        server.wait_for(lambda: not is_refused(server))
        assert "Too many open files" not in server.log
    finally:
        server.close()


def is_refused(server: ServerProcess) -> bool:
    """Told to come again, or, where the request met the end of the connection, cut off."""
    try:
        return server.get("/health").status == 503
    except OSError:
        return True


def test_a_connection_that_asks_for_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SILENT_SECONDS", 0.5)

    async def silent(*contents: bytes) -> list[bytes]:
        """What comes back before the server closes the connections by itself."""
        async with connections(seconds=1) as connect:
            opened = [await connect(content) for content in contents]
            return await asyncio.gather(*map(all_of, opened))

    unasked, torn, *whole = asyncio.run(silent(b"", WHOLE[:9], WHOLE, WHOLE + WHOLE[:9]))
    assert unasked == torn == b""
    assert all(answer.endswith(b"ok") for answer in whole)


def test_a_connection_is_not_closed_right_behind_an_answer() -> None:
    """One that was under way at the last look has not been silent since."""
    pauses: list[float] = []
    loop = SimpleNamespace(call_later=lambda pause, look: pauses.append(pause))
    transport = SimpleNamespace(is_closing=lambda: False, close=lambda: pauses.append(0.0))
    config = uvicorn.Config(Response("ok"), lifespan="off", log_config=None)
    made = connection.Connection(config, uvicorn.server.ServerState(), {}, loop)  # type: ignore[arg-type]
    made.transport, made.cycle = transport, SimpleNamespace(response_complete=False)  # type: ignore[assignment]
    made._look()
    made.cycle.response_complete = True  # just before the next look
    made._look()
    assert pauses == [connection.SILENT_SECONDS] * 2
    made._look()
    assert pauses[2:] == [0.0]


def test_nothing_keeps_a_connection_that_is_closed() -> None:
    """Its timer would, with the heads of its requests."""

    async def closed(count: int) -> None:
        async with connections() as connect:
            for _ in range(count):
                assert (await all_of(await connect(CLOSING))).endswith(b"ok")
            while kept := [each for each in gc.get_objects() if type(each) is connection.Connection]:
                del kept
                await asyncio.sleep(0.01)
                gc.collect()

    asyncio.run(asyncio.wait_for(closed(3), connection.SILENT_SECONDS / 2))


def test_connections_beyond_a_number_are_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the files that the process may have open would run out, and nothing would be answered."""
    monkeypatch.setattr(connection, "most_connections", lambda: 2)

    async def flood() -> list[bytes]:
        async with connections() as connect:
            opened = [await connect(b"") for _ in range(3)]
            refused = await all_of(opened.pop())
            for _, writer in opened:
                writer.close()
                await writer.wait_closed()
            while b" 503 " in (answer := await all_of(await connect(CLOSING))):
                pass  # until the server has seen that there is room
            return [refused, answer]

    refused, answered = asyncio.run(flood())
    assert refused.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert json.loads(refused.partition(b"\r\n\r\n")[2])["error"]["code"] == "overloaded"
    assert answered.endswith(b"ok")


Receive = Callable[[], Awaitable[dict[str, Any]]]


def guarded(limits: Limits, receive: Receive) -> tuple[int, dict[str, Any], Guard]:
    """What an application that reads its whole body is let to answer."""
    sent: list[dict[str, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        try:
            while (await receive()).get("more_body"):
                pass
        except guard.ApiError as error:
            await error.response()(scope, receive, send)

    async def send(message: Any) -> None:
        sent.append(message)

    around = Guard(application, limits, Metrics())
    headers = [(b"transfer-encoding", b"chunked")]
    scope = {"type": "http", "path": "/", "headers": headers, "method": "POST"}
    asyncio.run(around(scope, receive, send))  # type: ignore[arg-type]
    return sent[0]["status"], json.loads(sent[1]["body"])["error"], around


def test_an_upload_that_stops_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "IDLE_SECONDS", 0.01)
    monkeypatch.setattr(guard, "LINGER_SECONDS", 0.01)

    async def never() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    status, error, _ = guarded(Limits((), 100, 100, 60.0), never)
    assert (status, error["code"]) == (408, "timeout")


def test_an_upload_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LINGER_SECONDS", 0.01)

    async def trickling() -> dict[str, Any]:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"x", "more_body": True}

    assert guarded(Limits((), 10**9, 10**9, 0.1), trickling)[0] == 408


def test_all_uploads_together_have_a_limit_and_are_let_go_of() -> None:
    async def large() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x" * 60, "more_body": True}

    status, error, around = guarded(Limits((), 1000, 100, 60.0), large)
    assert (status, error["code"]) == (503, "overloaded")
    assert around._held == 0
