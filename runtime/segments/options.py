"""How speech is cut into segments: options in seconds, and the same in the frames that are counted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real
from typing import TypeGuard

from ...profiles.errors import RequestError
from ...profiles.faults import is_seconds, shown

RATE = 16000  # Hz, of the samples in which speech is looked for
FRAME = 512  # samples of them that have one probability of speech
FRAME_SECONDS = FRAME / RATE
RELEASE = 0.15  # below the threshold: where speech ends, so that one that wavers is not torn
LEAST_RELEASE = 0.01
LEAST_SECONDS = 1.0  # that a segment may be allowed to have
LONGEST_SECONDS = 30.0  # that a segment has unless more are asked for: what speech models are trained on


@dataclass(frozen=True)
class SegmentOptions:
    """Where segments begin and end; all but `threshold` in seconds, which are rounded to frames of 32 ms.

    Raises `RequestError` with every value that is out of range.
    """

    threshold: float = 0.5  # probability of speech with which a segment begins
    min_pause: float = 0.5  # without speech, which ends a segment
    min_speech: float = 0.2  # speech that is shorter is passed over
    padding: float = 0.2  # heard before and after it, but at most half of `min_pause`: none overlaps
    merge_seconds: float = 0.0  # up to which segments are joined where the pause between them is short
    merge_pause: float = 1.0  # the longest pause that is short
    max_seconds: float | None = None  # of a segment; None takes a window of the model, 30 at most

    def __post_init__(self) -> None:
        if faults := list(self._faults()):
            raise RequestError("; ".join(faults))

    def _faults(self) -> Iterator[str]:
        if not (_is_number(self.threshold) and 0 < self.threshold < 1):
            yield f"threshold is {shown(self.threshold)}: give a probability between 0 and 1"
        names = "min_pause", "min_speech", "padding", "merge_seconds", "merge_pause"
        for name in names:
            if not _is_seconds(value := getattr(self, name)):
                yield f"{name} is {shown(value)}: give seconds, at least 0"
        longest = self.max_seconds
        if longest is not None and not (_is_seconds(longest) and longest >= LEAST_SECONDS):
            yield f"max_seconds is {shown(longest)}: give seconds, at least {LEAST_SECONDS:g}"

    def rules(self, longest: float) -> Rules:
        """The same in frames, for segments of at most `longest` seconds."""
        pause = max(1, _begun(self.min_pause))
        padding = min(_whole(self.padding), pause // 2)
        return Rules(
            threshold=self.threshold,
            release=max(self.threshold - RELEASE, LEAST_RELEASE),
            min_pause=pause,
            min_speech=_begun(self.min_speech),
            padding=padding,
            merged=_whole(min(self.merge_seconds, longest)),
            merge_gap=_whole(self.merge_pause) - 2 * padding,
            longest=_whole(longest),
        )


@dataclass(frozen=True)
class Rules:
    """What `Cutter` counts by: probabilities and frames."""

    threshold: float  # of speech that begins
    release: float  # below which it may have ended
    min_pause: int
    min_speech: int
    padding: int
    merged: int  # frames of joined segments, padding included; 0: none are joined
    merge_gap: int  # frames between two that are joined, padding not included
    longest: int  # frames of a segment, padding included


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_seconds(value: object) -> bool:
    return is_seconds(value) and value <= 1e6


def _whole(seconds: float) -> int:
    """Frames that fit into so many seconds."""
    return math.floor(seconds / FRAME_SECONDS + 1e-9)


def _begun(seconds: float) -> int:
    """Frames that so many seconds fill or begin."""
    return math.ceil(seconds / FRAME_SECONDS - 1e-9)
