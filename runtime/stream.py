"""An answer that is read while it is found: pieces of text, and the whole result at their end."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import suppress
from inspect import GEN_CLOSED, getgeneratorstate

from ..profiles.errors import RequestError
from .cancellation.cancellation import Cancellation
from .results import GenerationResult


class Stream(Iterator[str]):
    """The pieces of an answer, each found when it is asked for; joined they are `result.text`."""

    def __init__(self, pieces: Generator[str, None, GenerationResult], cancellation: Cancellation) -> None:
        """Wrap a generator that yields the pieces and returns the result, and what cancels it."""
        self._pieces, self._cancellation = pieces, cancellation
        self._result: GenerationResult | None = None

    def __next__(self) -> str:
        """The next piece.

        Raises:
            EngineError: a graph fails.
            RequestError: its scores are not finite.
            RequestCancelled: the request was cancelled, or the stream closed by another thread meanwhile.
            DeadlineExceeded: its deadline has passed.
        """
        try:
            return next(self._pieces)
        except StopIteration as end:
            self._result = self._result or end.value
            raise

    @property
    def result(self) -> GenerationResult:
        """The answer as `SpeechLM.generate` gives it, once all pieces are read.

        Its times hold what the reader of the pieces took in between.

        Raises:
            RequestError: some are not read yet, or the stream ended before its last one.
        """
        if self._result is None:
            raise RequestError(self._fault())
        return self._result

    def close(self) -> None:
        """Find no more pieces; there will be no result if some are left.

        It may be called while another thread waits for a piece: that ends with `RequestCancelled`.
        """
        self._cancellation.cancel()
        with suppress(ValueError):  # a generator that another thread is in: there it sees the cancellation
            self._pieces.close()

    def _fault(self) -> str:
        if getgeneratorstate(self._pieces) == GEN_CLOSED:
            return (
                "the stream was closed or failed before its end, so it has no result: make the request again"
            )
        return "the stream has not ended, so it has no result yet: read all of its pieces first"
