"""What stands before all routes: keys, the size and the pace of bodies, and a count of what was answered.

It is plain ASGI: behind Starlette's `BaseHTTPMiddleware` a client that has gone is not noticed.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from collections.abc import MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...runtime.tables.units import size
from ..metrics import Metrics
from ..options import is_loopback
from .errors import ApiError, overloaded

OPEN_PATHS, OPEN_FOLDER = frozenset({"/", "/health", "/ready"}), "/page/"  # for anyone, without a key
IDLE_SECONDS = 30.0  # that a body may pause
LINGER_SECONDS = 5.0  # for a client that reads no answer before it has sent everything
CHAT = "/v1/chat/completions"
ABSOLUTE = re.compile(rb"https?://([^/]+)(/.*)?", re.IGNORECASE)  # a target with its scheme and host
CLIENT_GONE = 499  # in the counts alone; nobody reads it


@dataclass(frozen=True)
class Limits:
    """Who may ask, and how large and slow the bodies of requests may be."""

    keys: tuple[str, ...]  # none: only this machine may ask
    max_body_bytes: int
    max_held_bytes: int  # of all requests together that have no answer yet
    max_seconds: float  # that a body may take


class Guard:
    """Around the application."""

    def __init__(self, app: ASGIApp, limits: Limits, metrics: Metrics) -> None:
        self._app, self._limits, self._metrics = app, limits, metrics
        self._keys = tuple(key.encode() for key in limits.keys)
        self._held = 0  # bytes of bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served")
        begin, status, scope = time.monotonic(), CLIENT_GONE, _by_path(scope)
        body = _Body(scope, receive, self._limits, self)

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                body.let_go()  # a client that reads slowly holds up nobody
            elif not message.get("more_body", False):
                await body.outlast(message, send)
            await send(message)

        try:
            if fault := self._fault(scope):
                await fault.response()(scope, receive, sent)
            else:
                await self._app(scope, body.receive, sent)
        finally:
            body.let_go()
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.requests.labels(route, status).inc()
            self._metrics.request_seconds.labels(route).observe(time.monotonic() - begin)

    def hold(self, more: int) -> None:
        """Count bytes of a body; fewer than none are let go of.

        Raises:
            ApiError: all bodies together are too much.
        """
        self._held += more
        if more > 0 and self._held > self._limits.max_held_bytes:
            raise overloaded(
                "the uploads of all clients together are more than may be held: send it again later"
            )

    def _fault(self, scope: Scope) -> ApiError | None:
        headers = Headers(scope=scope)
        path = scope["path"]
        is_open = path in OPEN_PATHS or path.startswith(OPEN_FOLDER)
        if not is_open and (fault := self._stranger(headers)):
            return fault
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._limits.max_body_bytes:
            return too_large(self._limits.max_body_bytes, "request", _field_of_audio(path))
        return None

    def _stranger(self, headers: Headers) -> ApiError | None:
        """Who may not ask: whoever has no key; without keys, pages of other sites in a browser here."""
        if not self._keys:
            return _foreign_page(headers)
        given = headers.get("authorization", "").encode("latin-1")
        scheme, _, key = given.partition(b" ")
        known = [hmac.compare_digest(key.strip(), each) for each in self._keys]  # all of them: equal time
        if scheme.lower() == b"bearer" and any(known):
            return None
        what = "Incorrect API key provided" if given else "No API key provided"
        return ApiError(
            401,
            f"{what}: send it as the header Authorization: Bearer KEY",
            code="invalid_api_key",
            headers={"www-authenticate": "Bearer"},
        )


class _Body:
    """A body as it comes in: counted, and not waited for without end."""

    def __init__(self, scope: Scope, receive: Receive, limits: Limits, guard: Guard) -> None:
        self._size = self._held = 0
        self._receive, self._limits, self._guard = receive, limits, guard
        self._field = _field_of_audio(scope["path"])
        headers = Headers(scope=scope)
        self._complete = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        self._until = time.monotonic() + limits.max_seconds

    async def receive(self) -> Message:
        """As ASGI has it.

        Raises:
            ApiError: it is too large, or too slow.
        """
        if self._complete:
            return await self._receive()
        left = min(IDLE_SECONDS, self._until - time.monotonic())
        try:
            async with asyncio.timeout(left):
                message = await self._receive()
        except TimeoutError:
            late = (
                f"the body of the request paused for {IDLE_SECONDS:g} s, or took longer than "
                f"{self._limits.max_seconds:g} s; send it again over a faster connection"
            )
            raise ApiError(408, late, code="timeout", headers={"connection": "close"}) from None
        self._complete = not message.get("more_body", False)
        self._count(len(message.get("body", b"")))
        return message

    def _count(self, received: int) -> None:
        self._size += received
        self._held += received
        self._guard.hold(received)
        if self._size > self._limits.max_body_bytes:
            raise too_large(self._limits.max_body_bytes, "request", self._field)

    async def outlast(self, last: MutableMapping[str, Any], send: Send) -> None:
        """Send an answer that came before the end of the body, and hear the rest of that for a while.

        The connection would be reset otherwise, and the answer with it.
        """
        if self._complete:
            return
        await send({**last, "more_body": True})
        last["body"] = b""
        most = self._size + self._limits.max_body_bytes
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while not self._complete and self._size < most:
                    message = await self._receive()
                    self._complete = not message.get("more_body", False)
                    self._size += len(message.get("body", b""))

    def let_go(self) -> None:
        """Count it no longer as held."""
        self._guard.hold(-self._held)
        self._held = 0


def _by_path(scope: Scope) -> Scope:
    """The same request with its path alone as the target; a host before that takes the place of the header's.

    RFC 9112, 3.2.2.
    """
    if (found := ABSOLUTE.fullmatch(scope.get("raw_path") or b"")) is None:
        return scope
    host, path = found[1], found[2] or b"/"
    headers = [(b"host", host), *(header for header in scope["headers"] if header[0] != b"host")]
    return {**scope, "raw_path": path, "path": unquote(path.decode("ascii")), "headers": headers}


def too_large(most: int, what: str, field: str) -> ApiError:
    """For a body or its audio beyond the limit, in bytes; the field is that of the audio."""
    return ApiError(
        413,
        f"the {what} is larger than {size(most)}: send compressed audio (flac, ogg, mp3), or less of it",
        param=field,
        code="content_too_large",
        headers={"connection": "close"},
    )


def _field_of_audio(path: str) -> str:
    return "messages" if path == CHAT else "file"


def _foreign_page(headers: Headers) -> ApiError | None:
    """A page of another site that asks in its reader's name, or whose name was bound to this machine."""
    address, origin = headers.get("host", ""), headers.get("origin")
    host = _parts(f"//{address}").hostname
    if host is not None and is_loopback(host) and (origin is None or _parts(origin).netloc == address):
        return None
    return ApiError(
        403,
        "without a key this server answers programs and pages of its own machine alone: ask "
        "localhost, or start it with --api-key-file",
        code="forbidden",
    )


def _parts(address: str) -> SplitResult:
    """Those of an address; none of what is no address."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")
