"""From blocks of samples to the speech in them: one segment after the other, in memory that does not grow."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..audio.waveform import Resampler
from .cutter import Cutter, Span
from .options import FRAME, RATE, Rules
from .voice import Heard, VoiceActivity

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Speech:
    """One segment of a recording: its samples, and where they stand in it, to the sample."""

    start: float  # seconds
    end: float
    samples: Array  # (n,) at the rate of the recording


class Listener:
    """Finds the speech of one stream of samples at `rate` Hz."""

    def __init__(self, rate: int, rules: Rules) -> None:
        """Begin a stream. ArtifactError: the model that hears speech is damaged."""
        self._rate, self._kept = rate, Kept()
        self._resampler = Resampler(rate, RATE)
        self._voice, self._cutter = VoiceActivity(), Cutter(rules)

    @property
    def seconds(self) -> float:
        """How much was heard so far."""
        return self._kept.end / self._rate

    def listen(self, blocks: Iterable[Array]) -> Iterator[Speech]:
        """Hear blocks (n,) of any size, which are read as far as is needed for the segment asked for."""
        for block in blocks:
            self._kept.append(block)
            yield from self._speech(self._voice.take(self._resampler.take(block)))
        yield from self._speech(self._voice.take(self._resampler.finish()))
        yield from self._speech(self._voice.finish())
        for span in self._cutter.finish():
            yield self._of(span)

    def _speech(self, heard: Iterable[Heard]) -> Iterator[Speech]:
        for run in heard:
            for probability, power in zip(run.probabilities.tolist(), run.powers.tolist(), strict=True):
                for span in self._cutter.take(probability, power):
                    yield self._of(span)
            self._kept.forget(self._sample(self._cutter.kept_from))

    def _of(self, span: Span) -> Speech:
        start, end = (min(self._sample(frame), self._kept.end) for frame in span)
        return Speech(start / self._rate, end / self._rate, self._kept.take(start, end))

    def _sample(self, frame: int) -> int:
        """The first sample of a frame."""
        return frame * FRAME * self._rate // RATE


class Kept:
    """The last samples of a stream, by their place in it; those that are needed no more are let go of."""

    def __init__(self) -> None:
        self._blocks: deque[Array] = deque()
        self._start = self.end = 0  # samples of the stream

    def append(self, block: Array) -> None:
        """Keep the samples (n,) that follow."""
        self._blocks.append(block)
        self.end += len(block)

    def forget(self, before: int) -> None:
        """Let go of blocks that end before this sample."""
        while self._blocks and self._start + len(self._blocks[0]) <= before:
            self._start += len(self._blocks.popleft())

    def take(self, start: int, end: int) -> Array:
        """The samples from `start` to before `end`, none of which may be forgotten."""
        assert self._start <= start, "these samples are kept"
        parts, at = [np.empty(0, np.float32)], self._start
        for block in self._blocks:
            parts.append(block[max(0, start - at) : max(0, end - at)])
            at += len(block)
        return np.concatenate(parts)
