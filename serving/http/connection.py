"""A connection that is closed where it asks for nothing: one that is left open holds no place for ever."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

SILENT_SECONDS = 30.0  # without a whole head of a request, and without an answer under way


class Connection(H11Protocol):
    """Uvicorn's, which by itself looks at idle connections behind an answer alone."""

    _seen: RequestResponseCycle | None = None  # at the last look; the first one finds what never asked

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to look at it now and then."""
        super().connection_made(cast("Any", transport))
        self.loop.call_later(SILENT_SECONDS, self._look)

    def _look(self) -> None:
        if self.transport.is_closing():
            return
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self.cycle is self._seen:
            self.transport.close()
            return
        self._seen = self.cycle
        self.loop.call_later(SILENT_SECONDS, self._look)
