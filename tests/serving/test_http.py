"""What goes through HTTP and back, without a server: forms as they are received."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from fastadasp.serving.http.errors import ApiError
from fastadasp.serving.http.forms import received_form
from server_process import form


def request_of(body: bytes, content_type: str) -> Request:
    """A request of HTTP whose body has come in."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    headers = [(b"content-type", content_type.encode())]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)


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
