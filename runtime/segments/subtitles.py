"""Segments as text with times: lines for people, SubRip (srt) and WebVTT (vtt).

SubRip has no standard; what players agree on is a number, times with a comma, and text without empty lines.
WebVTT is https://www.w3.org/TR/webvtt1: hours of two digits or more, and three characters that are escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol


class Timed(Protocol):
    """A segment, as far as it is shown."""

    @property
    def start(self) -> float:
        """Seconds."""
        ...

    @property
    def end(self) -> float:
        """Seconds."""
        ...

    @property
    def text(self) -> str:
        """What is said."""
        ...


Cue = Callable[[int, Timed], str]  # of a segment that has text, with its number, from 1 on


@dataclass(frozen=True)
class Subtitles:
    """A format: what stands before all segments, and the text of each one."""

    head: str
    cue: Cue

    def written(self, segments: Iterable[Timed]) -> Iterator[str]:
        """The head, then each cue as soon as its segment is there; a segment without text is none."""
        yield self.head
        told = (segment for segment in segments if _line(segment))
        yield from (self.cue(number, segment) for number, segment in enumerate(told, 1))


def clock(seconds: float, point: str = ".") -> str:
    """HH:MM:SS.mmm, with more digits of hours where there are so many."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours:02}:{minute:02}:{second:02}{point}{milliseconds:03}"


def timed_line(segment: Timed) -> str:
    """For a terminal."""
    return f"[{clock(segment.start)} --> {clock(segment.end)}] {_line(segment)}"


def _srt(number: int, segment: Timed) -> str:
    text = _line(segment).replace("-->", "->")
    times = f"{clock(segment.start, ',')} --> {clock(segment.end, ',')}"
    return f"{number}\n{times}\n{text}\n\n"


def _vtt(number: int, segment: Timed) -> str:
    text = _line(segment).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"{clock(segment.start)} --> {clock(segment.end)}\n{text}\n\n"


def _line(segment: Timed) -> str:
    """The text in one line: an empty one would end a cue."""
    return " ".join(segment.text.split())


SUBTITLES = {"srt": Subtitles("", _srt), "vtt": Subtitles("WEBVTT\n\n", _vtt)}
