"""What stands before all routes: keys, the size and the pace of bodies, and a count of what was answered.

It is plain ASGI: behind Starlette's `BaseHTTPMiddleware` a client that has gone is not noticed.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..metrics import Metrics
from .errors import ApiError, overloaded

OPEN_PATHS = frozenset({"/health", "/ready"})  # without a key
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
IDLE_SECONDS = 30.0  # that a body may pause
CLIENT_GONE = 499  # in the counts alone; nobody reads it


@dataclass(frozen=True)
class Limits:
    """Of bodies."""

    keys: tuple[str, ...]  # none: only this machine may ask
    max_body_bytes: int
    max_held_bytes: int  # of all requests at once
    max_seconds: float  # that a body may take


class Guard:
    """Around the application."""

    def __init__(self, app: ASGIApp, limits: Limits, metrics: Metrics) -> None:
        self._app, self._limits, self._metrics = app, limits, metrics
        self._keys = tuple(key.encode() for key in limits.keys)
        self._held = 0  # bytes of bodies whose requests have not ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served")
        begin, status = time.monotonic(), CLIENT_GONE
        body = _Body(receive, self._limits, self)

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if fault := self._fault(scope):
                await fault.response()(scope, receive, sent)
            else:
                await self._app(scope, body.receive, sent)
        finally:
            self._held -= body.size
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.requests.labels(route, status).inc()
            self._metrics.request_seconds.labels(route).observe(time.monotonic() - begin)

    def hold(self, size: int) -> None:
        """Count bytes of a body.

        Raises:
            ApiError: all bodies together are too much.
        """
        self._held += size
        if self._held > self._limits.max_held_bytes:
            raise overloaded(
                "the uploads of all clients together are more than may be held: send it again later"
            )

    def _fault(self, scope: Scope) -> ApiError | None:
        headers = Headers(scope=scope)
        if scope["path"] not in OPEN_PATHS and (fault := self._stranger(headers)):
            return fault
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._limits.max_body_bytes:
            return too_large(self._limits.max_body_bytes)
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

    def __init__(self, receive: Receive, limits: Limits, guard: Guard) -> None:
        self.size = 0
        self._receive, self._limits, self._guard = receive, limits, guard
        self._complete, self._until = False, time.monotonic() + limits.max_seconds

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
            late = "the body of the request did not come in time; send it again over a faster connection"
            raise ApiError(408, late, code="timeout", headers={"connection": "close"}) from None
        self._complete = not message.get("more_body", False)
        self._count(len(message.get("body", b"")))
        return message

    def _count(self, size: int) -> None:
        self.size += size
        self._guard.hold(size)
        if self.size > self._limits.max_body_bytes:
            raise too_large(self._limits.max_body_bytes)


def too_large(most: int) -> ApiError:
    """For a body beyond the limit."""
    return ApiError(
        413,
        f"the request is larger than {most} bytes: send compressed audio (flac, ogg, mp3), or less of it",
        param="file",
        code="content_too_large",
        headers={"connection": "close"},
    )


def _foreign_page(headers: Headers) -> ApiError | None:
    """A page of another site that asks in its reader's name, or whose name was bound to this machine."""
    host = _host_of(f"//{headers.get('host', '')}")
    origin = headers.get("origin")
    if host in LOCAL_HOSTS and (origin is None or urlsplit(origin).netloc == headers.get("host")):
        return None
    return ApiError(
        403,
        "without a key this server answers programs and pages of its own machine alone: ask "
        "localhost, or start it with --api-key-file",
        code="forbidden",
    )


def _host_of(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
