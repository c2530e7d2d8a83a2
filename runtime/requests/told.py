"""An answer of which each piece of text is told as it is found, to whoever waits for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from ...profiles.errors import FastAdaSPError
from ..batching.submitted import Submitted
from ..cancellation.guard import Guard
from ..results import GenerationResult
from .answer import streamed
from .asked import Asked
from .loaded import LoadedModel

Tell = Callable[[str], None]
"""Takes a piece; joined, those of an answer are its text."""


def told(model: LoadedModel, asked: Asked, tell: Tell) -> GenerationResult:
    """Find the answer now; errors as in `SpeechLM.stream`."""
    stream = streamed(model, asked)
    for piece in stream:
        tell(piece)
    return stream.result


def told_by_queue(model: LoadedModel, asked: Asked, tell: Tell) -> Callable[[], GenerationResult]:
    """Have a thread of the queue find the answer; what is returned waits for it, and tells its pieces.

    Raises:
        QueueFullError: enough requests are waiting.
    """
    pieces = SimpleQueue[str | None]()
    request = model.queue.submit(lambda: told(model, asked, pieces.put), asked.guard)
    request.then(lambda: pieces.put(None))

    def wait() -> GenerationResult:
        while (piece := _next(pieces, request, asked.guard)) is not None:
            tell(piece)
        return request.result()

    return wait


def _next(pieces: SimpleQueue[str | None], request: Submitted, guard: Guard) -> str | None:
    """The next piece, or None once the request has ended."""
    try:
        return pieces.get(timeout=guard.seconds_left)
    except Empty:  # its deadline has passed, with which one that still waits for a thread has to be ended
        with suppress(FastAdaSPError):
            request.result()
        return pieces.get()
