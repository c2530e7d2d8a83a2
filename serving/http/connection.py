"""A connection: refused where there are too many, closed where it asks for nothing, or for no HTTP."""

from __future__ import annotations

import asyncio
import resource
from functools import cache
from http import HTTPStatus
from typing import Any, cast

import h11
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from .errors import ApiError

SILENT_SECONDS = 30.0  # without a whole head of a request, and without an answer under way
MANY = 100_000  # where open files have no limit
CLOSING = {"connection": "close"}
TOO_MANY = ApiError(
    503,
    "there are too many connections: come again later",
    code="overloaded",
    headers={**CLOSING, "retry-after": "1"},
)
NO_HTTP = ApiError(
    400,
    "this is no request of HTTP/1.1, or its head is larger than 64 KiB: send it as curl does",
    code="invalid_http",
    headers=CLOSING,
)


@cache
def most_connections() -> int:
    """A third of the files that this process may have open: each may upload one, and others are needed."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MANY if files == resource.RLIM_INFINITY else files // 3


class Connection(H11Protocol):
    """Uvicorn's, which by itself looks at idle connections behind an answer alone, and tells faults as text.

    One that is left open holds no place for ever.
    """

    _seen: RequestResponseCycle | None = None  # idle at the last look; the first one finds what never asked
    _next_look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to look at it now and then."""
        super().connection_made(cast("Any", transport))
        if len(self.connections) > most_connections():
            self._refuse(TOO_MANY.response())
            return
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """Look at it no more, which would keep it and the heads of its requests in memory."""
        if self._next_look:
            self._next_look.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Say as JSON, like all other faults, that this is no HTTP; but not into an answer that has begun."""
        if self.cycle:
            self.cycle.disconnected = True  # its own answer would come behind this one
        self._refuse(NO_HTTP.response())

    def _refuse(self, answer: Response) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            reason = HTTPStatus(answer.status_code).phrase.encode()
            head = h11.Response(status_code=answer.status_code, headers=answer.raw_headers, reason=reason)
            events = (head, h11.Data(bytes(answer.body)), h11.EndOfMessage())
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self.transport.close()

    def _look(self) -> None:
        if self.transport.is_closing():
            return
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self.cycle is self._seen:
            self.transport.close()
            return
        self._seen = self.cycle if is_idle else None
        self._look_later()

    def _look_later(self) -> None:
        self._next_look = self.loop.call_later(SILENT_SECONDS, self._look)
