"""Where segments begin and end, decided frame by frame; it knows no samples, only how loud each frame is."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .options import Rules

HALF = 2  # frames on each side of a cut over which it is quiet: 64 ms, more than the gap within a plosive


class Span(NamedTuple):
    """Frames of one segment, from `start` to before `end`."""

    start: int
    end: int


@dataclass
class _Speech:
    """Speech that goes on."""

    start: int  # of its segment, with padding
    began: int  # frame with which it began
    cut: bool = False  # whether a segment ends where it begins
    quiet: int | None = None  # first frame of what may be the pause behind it


class Cutter:
    """Finds segments in a stream of frames; they come in order and do not overlap.

    Speech begins with a frame of at least `threshold`, and ends where no frame has that for `min_pause` from
    one below `release` on. A segment that grows beyond `longest` is cut at its quietest place in the second
    half of what it may have.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._frames = 0
        self._speech: _Speech | None = None
        self._held: Span | None = None  # which the next one may be joined to
        self._powers: deque[float] = deque(maxlen=rules.longest + rules.min_pause + 1)

    @property
    def kept_from(self) -> int:
        """The first frame that segments to come may have."""
        return self._held.start if self._held else self._next_start

    def take(self, probability: float, power: float) -> Iterator[Span]:
        """Hear a frame: its probability of speech, and how loud it is. Gives what is certain by now."""
        frame, rules = self._frames, self._rules
        self._frames += 1
        self._powers.append(power)
        if probability >= rules.threshold:
            self._speech = self._speech or _Speech(max(0, frame - rules.padding), frame)
            self._speech.quiet = None
        elif self._speech and self._speech.quiet is None and probability < rules.release:
            self._speech.quiet = frame
        yield from self._decided()
        if self._held and not self._may_grow(self._held):
            yield self._held
            self._held = None

    def finish(self) -> Iterator[Span]:
        """There are no more frames. Gives the rest."""
        if self._speech:
            quiet = self._speech.quiet
            yield from self._end(self._speech, self._frames if quiet is None else quiet)
        if self._held:
            yield self._held
        self._held = None

    @property
    def _next_start(self) -> int:
        """Where the next segment to end begins, or at the earliest might begin."""
        return self._speech.start if self._speech else max(0, self._frames - self._rules.padding)

    def _decided(self) -> Iterator[Span]:
        """Segments that end with this frame, because a pause is long enough or they themselves are."""
        speech = self._speech
        if speech is None:
            return
        if speech.quiet is not None:
            if self._frames - speech.quiet >= self._rules.min_pause:
                yield from self._end(speech, speech.quiet)
            return
        while self._frames - speech.start > self._rules.longest:
            place = self._quietest(speech.start)
            yield from self._joined(Span(speech.start, place))
            self._speech = speech = _Speech(place, place, cut=True)

    def _end(self, speech: _Speech, end: int) -> Iterator[Span]:
        """The segment of speech that has ended, unless it was too short to be any."""
        self._speech = None
        if speech.cut or end - speech.began >= self._rules.min_speech:
            padded = min(end + self._rules.padding, speech.start + self._rules.longest, self._frames)
            yield from self._joined(Span(speech.start, padded))

    def _joined(self, span: Span) -> Iterator[Span]:
        """Hold a segment, joined to the one that is held or instead of it."""
        held, rules = self._held, self._rules
        if held and span.start - held.end <= rules.merge_gap and span.end - held.start <= rules.merged:
            self._held = Span(held.start, span.end)
            return
        if held:
            yield held
        self._held = span

    def _may_grow(self, held: Span) -> bool:
        """Whether a segment that ends now or later may be joined to one that has ended."""
        quiet = self._speech.quiet if self._speech else None
        end = self._frames if quiet is None else quiet  # at the earliest
        near = self._next_start - held.end <= self._rules.merge_gap
        return near and end - held.start <= self._rules.merged

    def _quietest(self, start: int) -> int:
        """Where to cut what began at `start`: the frame before which, and in which, it is quietest."""
        first = start + self._rules.longest // 2
        last = min(start + self._rules.longest, self._frames - HALF)
        offset = self._frames - len(self._powers)
        powers = np.array(self._powers)[first - HALF - offset : last + HALF - offset]
        return first + int(np.convolve(powers, np.ones(2 * HALF), "valid").argmin())
