"""Segments of long audio on the command line: their options, and how they are printed as they are found."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ...runtime.runtime_options import MOST_BATCH
from ...runtime.segments.options import SegmentOptions
from .answer_record import record
from .command import Command, with_options
from .progress import Lines

if TYPE_CHECKING:
    from ...runtime import Segment, Segments

FORMATS = ("text", "srt", "vtt", "json", "jsonl")
OF_ONE = ("srt", "vtt")  # recording: nothing in them says where another one begins
WHOLE = ("json", "jsonl")  # which have all hypotheses
SECONDS = "SECONDS"
OPTIONS: dict[str, tuple[str, str, str]] = {
    "max_seconds": ("--max-segment-seconds", SECONDS, "Cut longer segments at their quietest place."),
    "min_pause": ("--min-pause", SECONDS, "End a segment where nobody speaks for so long."),
    "merge_seconds": ("--merge-seconds", SECONDS, "Join segments over short pauses up to so long; 0: never."),
    "threshold": ("--speech-threshold", "P", "Probability with which a segment begins."),
}
"""Field of `SegmentOptions` -> flag, metavar, help."""


def segment_options(command: Command) -> Command:
    """Add those of long audio."""
    at_once = click.option(
        "--at-once",
        type=click.IntRange(min=1, max=MOST_BATCH),
        metavar="N",
        help="Answer so many segments at the same time.  [default: 1]",
    )
    form = click.option(
        "--format", type=click.Choice(FORMATS), help="How segments are printed.  [default: text]"
    )
    text = "Audio of any length: print each stretch of speech with its times."
    return cutting_options(command, text, form, at_once)


def cutting_options(command: Command, text: str, *others: Callable[[Any], Any]) -> Command:
    """Add --segments, which does what `text` says, others that belong to it, and where segments are cut."""
    options = [click.option("--segments", is_flag=True, help=text), *others]
    for field, (flag, metavar, words) in OPTIONS.items():
        default = SegmentOptions.__dataclass_fields__[field].default
        shown = "one window of the model" if default is None else f"{default:g}"
        help_text = f"{words}  [default: {shown}]"
        options.append(click.option(flag, field, type=float, metavar=metavar, help=help_text))
    return with_options(command, options)


def segmenting_of(values: dict[str, Any]) -> SegmentOptions:
    """The segments that the values of a command ask for.

    Raises:
        RequestError: with every value that is out of range.
    """
    return SegmentOptions(**{field: values[field] for field in OPTIONS if values[field] is not None})


def refuse_without_segments(values: dict[str, Any], **others: str) -> None:
    """Refuse options of --segments, and others by their flags, where that is not given; click.UsageError."""
    flags = {**others, **{field: flag for field, (flag, *_) in OPTIONS.items()}}
    if given := [flag for field, flag in flags.items() if values[field] is not None]:
        raise click.UsageError(f"{', '.join(given)}: of --segments, which is not given")


def refuse_combinations(values: dict[str, Any], num_clips: int) -> None:
    """Refuse what has no meaning together.

    Raises:
        click.UsageError: with the names of the options.
    """
    if not values["segments"]:
        refuse_without_segments(values, format="--format", at_once="--at-once")
        return
    form = values["format"] or "text"
    if values["stream"]:
        raise click.UsageError("--segments and --stream exclude each other: segments come one by one")
    if values["as_json"]:
        raise click.UsageError("--segments and --json exclude each other: give --format json or jsonl")
    if form in OF_ONE and num_clips > 1:
        raise click.UsageError(f"--format {form} holds one recording: give one CLIP, or another format")
    if form not in WHOLE and (values["num_return_sequences"] or 1) > 1:
        raise click.UsageError(
            f"--num-return-sequences: --format {form} shows one answer a segment; give json or jsonl"
        )


def print_segments(clip: str, found: Segments, form: str, *, named: bool) -> None:
    """Print the segments of a clip, each as soon as it is there; `named`: with the name of the clip."""
    begin, summary = time.perf_counter(), _Summary(clip)
    for text in _printed(clip, summary.counted(found), form, named=named):
        click.echo(text, nl=False)
    summary.say(found.audio_seconds, time.perf_counter() - begin)


def _printed(clip: str, found: Iterator[Segment], form: str, *, named: bool) -> Iterator[str]:
    from ...runtime.segments.subtitles import SUBTITLES, timed_line

    if form in SUBTITLES:
        yield from SUBTITLES[form].written(found)
    elif form == "text":
        yield from (
            f"{clip}\t{timed_line(segment)}\n" if named else f"{timed_line(segment)}\n" for segment in found
        )
    elif form == "jsonl":
        yield from (_json({"clip": clip, **_segment(segment)}) for segment in found)
    else:
        segments = [_segment(segment) for segment in found]
        text = " ".join(segment["text"] for segment in segments if segment["text"])
        yield _json({"clip": clip, "text": text, "segments": segments})


def _segment(segment: Segment) -> dict[str, Any]:
    found = {"start": segment.start, "end": segment.end, **record(segment.result)}
    return found if segment.words is None else {**found, "words": [asdict(word) for word in segment.words]}


def _json(found: dict[str, Any]) -> str:
    return json.dumps(found, ensure_ascii=False, allow_nan=False) + "\n"


class _Summary:
    """What is said of the segments of a clip on stderr, while they are found and at the end."""

    def __init__(self, clip: str) -> None:
        self._clip = clip
        self._count, self._speech, self._cut_short = 0, 0.0, 0
        self._chosen: Counter[str] = Counter()  # segments by the profile that was chosen for them

    def counted(self, found: Segments) -> Iterator[Segment]:
        """The same segments. Where they do not come on a terminal, a line now and then says how far it is."""
        lines = Lines()
        for segment in found:
            self._count += 1
            self._speech += segment.end - segment.start
            self._cut_short += segment.result.finish_reason == "length"
            self._chosen.update([segment.result.profile] * (segment.result.profile_reason is not None))
            yield segment
            if not sys.stdout.isatty():
                lines.say(f"{self._clip}: {self._count} segments up to {_time(segment.end)}")

    def say(self, audio_seconds: float, took: float) -> None:
        """The end of a clip."""
        if not self._count:
            click.echo(f"{self._clip}: no speech in {_time(audio_seconds)} of audio", err=True)
            return
        speed = f", {audio_seconds / took:.1f} times as fast as it is spoken" if took else ""
        segments = f"{self._count} segment{'s' * (self._count > 1)}"
        click.echo(
            f"{self._clip}: {segments}, {_time(self._speech)} of {_time(audio_seconds)} are speech; "
            f"{took:.1f} s{speed}",
            err=True,
        )
        if self._chosen:
            chosen = ", ".join(f"{profile} for {count}" for profile, count in self._chosen.most_common())
            click.echo(f"{self._clip}: profiles chosen by their lengths: {chosen}", err=True)
        if self._cut_short:
            those = f"{self._cut_short} of them" if self._count > 1 else "it"
            click.echo(f"{self._clip}: {those} ended at --max-new-tokens, so text may be missing", err=True)


def _time(seconds: float) -> str:
    from ...runtime.segments.subtitles import clock

    return clock(seconds)
