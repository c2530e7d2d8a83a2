"""Segments with their answers, in order of time, some of which may be under way at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from ...profiles.errors import AudioError
from ..alignment.word_times import Word
from ..cancellation.cancellation import Cancellation
from ..results import GenerationResult
from .speech import Listener, Speech

Answer = Callable[[], GenerationResult]  # waits for it
Ask = Callable[[Speech], Answer]  # begins a request


@dataclass(frozen=True)
class Segment:
    """A stretch of speech with its answer."""

    start: float  # seconds from the beginning of the recording
    end: float
    text: str
    result: GenerationResult

    @property
    def words(self) -> tuple[Word, ...] | None:
        """Those of the result, their begins counted from the beginning of the recording."""
        if (words := self.result.words) is None:
            return None
        return tuple(replace(word, start=self.start + word.start) for word in words)


class Segments(Iterator[Segment]):
    """The segments of a recording, each found when it is asked for."""

    def __init__(
        self, found: Generator[Segment, None, None], listener: Listener, cancellation: Cancellation
    ) -> None:
        """Wrap what finds them, what hears the recording, and what cancels both."""
        self._found, self._listener, self._cancellation = found, listener, cancellation

    def __next__(self) -> Segment:
        """The next one; of a recording without speech there is none.

        Raises:
            AudioError: the recording is missing, or damaged from here on.
            EngineError: a graph fails.
            RequestCancelled: the request was cancelled, or closed by another thread meanwhile.
            DeadlineExceeded: its deadline has passed.
        """
        return next(self._found)

    @property
    def audio_seconds(self) -> float:
        """How much of the recording was heard so far: all of it behind the last segment."""
        return self._listener.seconds

    def close(self) -> None:
        """Find no more segments, and let go of the recording.

        It may be called while another thread waits for a segment: that ends with `RequestCancelled`.
        """
        self._cancellation.cancel()
        with suppress(ValueError):  # a generator that another thread is in: there it sees the cancellation
            self._found.close()


def answered(
    speech: Iterable[Speech], ask: Ask, cancellation: Cancellation, at_once: int = 1
) -> Generator[Segment, None, None]:
    """Ask about one segment after the other, and give the answers in the same order.

    Where the recording is damaged, or reading it fails, those that are under way are given before the error.

    Args:
        speech: the segments.
        ask: begins a request about one.
        cancellation: cancels those that are under way when no answer is wanted any more.
        at_once: how many may be under way.
    """
    under_way: deque[tuple[Speech, Answer]] = deque()
    faults: list[AudioError] = []
    try:
        for found in _read(speech, faults):
            under_way.append((found, ask(found)))
            if len(under_way) == at_once:
                yield _segment(*under_way.popleft())
        while under_way:
            yield _segment(*under_way.popleft())
        if faults:
            raise faults[0]
    finally:
        cancellation.cancel()


def _read(speech: Iterable[Speech], faults: list[AudioError]) -> Iterator[Speech]:
    """The segments up to where the recording cannot be read, and why it cannot."""
    try:
        yield from speech
    except AudioError as error:
        faults.append(error)


def _segment(speech: Speech, answer: Answer) -> Segment:
    result = answer()
    return Segment(speech.start, speech.end, result.text, result)
