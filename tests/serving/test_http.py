"""What goes through HTTP, without a server: forms as they come, events as they go, what is kept of a body."""

from __future__ import annotations

import asyncio
import base64
import json
import tracemalloc
from typing import Any

import pytest
from starlette.requests import Request

from fastadasp.serving.http.app import Api
from fastadasp.serving.http.errors import ApiError
from fastadasp.serving.http.events import Events, EventStream
from fastadasp.serving.http.forms import received_form
from fastadasp.serving.http.prompts import Prompts
from fastadasp.serving.http.served import Served
from fastadasp.serving.metrics import Metrics
from fastadasp.serving.models import Models
from fastadasp.serving.pool.messages import Asked
from fastadasp.serving.pool.ticket import Ticket
from server_process import PATIENCE, form


def request_of(body: bytes, content_type: str) -> Request:
    """A request of HTTP whose body has come in, and whose client waits."""
    messages = [{"type": "http.request", "body": body}]

    async def receive() -> dict[str, Any]:
        while not messages:
            await asyncio.Event().wait()
        return messages.pop()

    headers = [(b"content-type", content_type.encode())]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers, "app": None}
    return Request(scope, receive)


def received(body: bytes, content_type: str) -> dict[str, Any]:
    """The fields of a form."""

    async def receive() -> dict[str, Any]:
        async with received_form(request_of(body, content_type)) as found:
            return dict(found.items())

    return asyncio.run(receive())


@pytest.mark.parametrize("end", ['x="', 'x="a\\"', 'charset="utf-8'])
def test_a_quotation_without_an_end_in_the_type_of_a_form_is_refused(end: str) -> None:
    """It would reach over the encoding that keeps the bytes of texts."""
    body, headers = form({"prompt": "€"}, None)
    assert received(body, f'{headers["content-type"]}; x="a"') == {"prompt": "€"}
    with pytest.raises(ApiError) as caught:
        received(body, f"{headers['content-type']}; {end}")
    assert (caught.value.status, caught.value.param) == (415, "content-type")


def test_a_form_that_is_damaged_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    body, headers = form({"prompt": "a"}, None)
    with pytest.raises(ApiError) as caught:
        received(body[4:], headers["content-type"])
    assert (caught.value.status, caught.value.code) == (400, "invalid_form")
    assert caplog.records == []


@pytest.mark.parametrize("text", ["a\u2028b", "\u2029", "\x85", "\x0b\x0c\x1c", "é 😀\r\n"])
def test_an_event_is_one_line_for_whoever_cuts_lines_as_python_does(text: str) -> None:
    async def others() -> Events:
        yield {"delta": text}

    async def sent() -> str:
        stream = EventStream({"delta": text}, others(), {}, lambda: None)
        return "".join([str(part) async for part in stream.body_iterator])

    lines = asyncio.run(sent()).splitlines()
    assert lines[1::2] == ["", "", ""]
    assert [json.loads(line.removeprefix("data: ")) for line in lines[:4:2]] == [{"delta": text}] * 2


def test_a_chat_that_waits_for_its_answer_keeps_neither_body_nor_audio() -> None:
    """What all clients may hold is counted by their bodies alone."""
    size = 4_000_000

    def asking() -> Request:
        data = base64.b64encode(bytes(size)).decode()
        parts = [{"type": "input_audio", "input_audio": {"data": data}}]
        asked = {"model": "demo", "messages": [{"role": "user", "content": parts}]}
        return request_of(json.dumps(asked).encode(), "application/json")

    class Busy:
        """In the place of a pool, whose worker has the audio."""

        is_ready = True

        def __init__(self) -> None:
            self.has_asked = asyncio.Event()

        def submit(self, asked: Asked, audio: Any) -> Ticket:
            assert len(audio) == size
            self.has_asked.set()
            return Ticket(0, asked, b"", 60.0)

        def leave(self, ticket: Ticket) -> None:
            pass

    async def let_go() -> None:
        """Wait for the thread that has read the body, too."""
        while tracemalloc.get_traced_memory()[0] > size / 2:
            await asyncio.sleep(0.01)

    async def wait() -> None:
        pool = Busy()
        served = Served(Models("demo", ("full",), "full"), Prompts("<asr>"), size, 0)
        chat = asyncio.create_task(Api(pool, served, Metrics()).chat(asking()))
        await pool.has_asked.wait()
        await asyncio.wait_for(let_go(), PATIENCE)
        chat.cancel()

    tracemalloc.start()
    try:
        asyncio.run(wait())
    finally:
        tracemalloc.stop()
