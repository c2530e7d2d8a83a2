"""Segments as subtitles: numbers, times beyond hours, text that no player misreads."""

from __future__ import annotations

from typing import Any

import pytest

from fastadasp.runtime import Segment
from fastadasp.runtime.segments.subtitles import SUBTITLES, clock, timed_line

NO_RESULT: Any = None


def written(form: str, *segments: Segment) -> str:
    return "".join(SUBTITLES[form].written(segments))


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "00:00:00.000"),
        (59.9994, "00:00:59.999"),
        (59.9996, "00:01:00.000"),
        (3599.9999, "01:00:00.000"),
        (36000.5, "10:00:00.500"),
        (360000, "100:00:00.000"),
    ],
)
def test_times_are_rounded_to_milliseconds_and_carried(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown
    assert clock(seconds, ",") == shown.replace(".", ",")


def test_srt_and_vtt_beside_each_other() -> None:
    segments = (
        Segment(0.032, 1.5, "a & <b> --> c", NO_RESULT),
        Segment(3600.0, 36001.25, "two\n\nlines", NO_RESULT),
    )
    assert written("srt", *segments) == (
        "1\n00:00:00,032 --> 00:00:01,500\na & <b> -> c\n\n2\n01:00:00,000 --> 10:00:01,250\ntwo lines\n\n"
    )
    assert written("vtt", *segments) == (
        "WEBVTT\n\n"
        "00:00:00.032 --> 00:00:01.500\na &amp; &lt;b&gt; --&gt; c\n\n"
        "01:00:00.000 --> 10:00:01.250\ntwo lines\n\n"
    )
    assert timed_line(segments[1]) == "[01:00:00.000 --> 10:00:01.250] two lines"


def test_a_segment_without_text_is_no_cue_and_has_no_number() -> None:
    segments = (Segment(1, 2, " \n", NO_RESULT), Segment(3, 4, "b", NO_RESULT))
    assert written("srt", *segments) == "1\n00:00:03,000 --> 00:00:04,000\nb\n\n"
    assert written("vtt", *segments) == "WEBVTT\n\n00:00:03.000 --> 00:00:04.000\nb\n\n"
