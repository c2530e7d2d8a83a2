"""A form as it is received: one file, few fields, and names and texts of UTF-8 alone."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from ...profiles.faults import shown
from .errors import ApiError, invalid

MOST_FIELDS, MOST_FIELD_BYTES = 64, 1 << 16
UTF8 = (b"utf-8", b"utf8")
A_CHARACTER_A_BYTE = "latin-1"  # so that Starlette, which guesses where a text is not UTF-8, changes none
PARSER = logging.getLogger("python_multipart")  # has a warning for whatever is no form
PARSER.setLevel(logging.ERROR)  # clients are told, and the log is not for them to fill


@asynccontextmanager
async def received_form(request: Request) -> AsyncIterator[FormData]:
    """The form of a request. Its file is closed at the end of the block.

    Raises:
        ApiError: no form, too much of one, or texts of another encoding.
    """
    form = await _parsed(Request(_read_as_bytes(request), request.receive))
    try:
        yield FormData([(_name(name), _value(name, value)) for name, value in form.multi_items()])
    finally:
        await form.close()


def _read_as_bytes(request: Request) -> dict[str, object]:
    """The scope of the request, with an encoding of the form's texts that keeps their bytes."""
    kind = request.headers.get("content-type", "")
    charset = _charset(kind)
    if charset.lower() not in UTF8:
        text = f"content-type: charset {shown(charset.decode('latin-1'))}: send texts as UTF-8"
        raise ApiError(415, text, param="content-type", code="unsupported_media_type")
    others = [(name, value) for name, value in request.scope["headers"] if name != b"content-type"]
    content_type = f"{kind}; charset={A_CHARACTER_A_BYTE}".encode("latin-1")
    if _charset(content_type) != A_CHARACTER_A_BYTE.encode():  # a quotation without an end has taken it
        text = f"content-type {shown(kind)}: a quotation in it has no end; send it as curl -F does"
        raise ApiError(415, text, param="content-type", code="unsupported_media_type")
    return {**request.scope, "headers": [*others, (b"content-type", content_type)]}


def _charset(kind: str | bytes) -> bytes:
    """The encoding of texts that a content type names, as Starlette reads it."""
    return parse_options_header(kind)[1].get(b"charset", UTF8[0])


async def _parsed(request: Request) -> FormData:
    try:
        return await request.form(max_files=1, max_fields=MOST_FIELDS, max_part_size=MOST_FIELD_BYTES)
    except HTTPException as error:
        why = error.detail.removesuffix(".")
        param = "file" if "files" in why else "content-type" if "boundary" in why else None
        text = f"the form cannot be read: {why}; send it as curl -F does, with one file"
        raise ApiError(400, text, param=param, code="invalid_form") from None


def _name(name: str) -> str:
    try:
        return _utf8(name)
    except UnicodeDecodeError:
        text = f"{shown(name)}: the name of this field is not UTF-8"
        raise ApiError(400, text, param=name[:100], code="unknown_parameter") from None


def _value(name: str, value: UploadFile | str) -> UploadFile | str:
    if not isinstance(value, str):
        return value
    try:
        return _utf8(value)
    except UnicodeDecodeError as error:
        raise invalid(name, f"byte {error.start + 1} is not UTF-8; send it as UTF-8") from None


def _utf8(text: str) -> str:
    return text.encode(A_CHARACTER_A_BYTE).decode("utf-8")
