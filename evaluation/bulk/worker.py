"""A process that transcribes: clips come through a pipe, and their lines go back as they are found."""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from ...profiles.errors import (
    AudioError,
    EngineError,
    FastAdaSPError,
    LongAudioError,
    RequestError,
    RequestMemoryError,
)
from ...runtime import SegmentOptions, SpeechLM
from ...runtime.audio.read import is_longer
from ...runtime.choice.target import AUTO, Auto
from ...runtime.segments.longest import longest_unasked
from ..answers.workers import Job, end_with_parent
from ..clips.clip import Clip
from .records import Found, Transcript, failed, transcript, transcript_of

OF_ONE_CLIP = (AudioError, RequestError, EngineError)
"""What is wrong with one request, as a rule; other errors end the run."""


@dataclass(frozen=True)
class BulkJob:
    """What every clip is transcribed with."""

    job: Job  # its first profile is the one
    system: str | None
    segmenting: SegmentOptions | None = None  # None: no clip is cut
    auto: Auto | None = None  # what the profile of each clip is chosen for; None: it is that of the job

    @property
    def profile(self) -> str:
        """What the profile is called before a clip is answered."""
        return self.job.profiles[0] if self.auto is None else AUTO

    @property
    def max_batch(self) -> int:
        """Clips that a worker has under way at once."""
        return self.job.runtime.max_batch


@dataclass(frozen=True)
class Ready:
    """The artifact is loaded."""


Message = Ready | Found | FastAdaSPError
"""What a worker sends; an error ends the run."""


def serve(pipe: Connection, bulk: BulkJob) -> None:
    """Load the artifact and transcribe what comes, `max_batch` clips at once, until None comes."""
    end_with_parent()
    threading.excepthook = _end_at_once
    try:
        model = bulk.job.open()
    except FastAdaSPError as error:
        pipe.send(error)
        return
    desk = _Desk(pipe)
    desk.send(Ready())
    threads = [threading.Thread(target=_work, args=(model, bulk, desk)) for _ in range(bulk.max_batch)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def transcribe_clip(model: SpeechLM, bulk: BulkJob, clip: Clip) -> Found:
    """The line of one clip; the only place that knows how a clip becomes text.

    Raises:
        FastAdaSPError: what is no fault of the clip.
    """
    try:
        if bulk.segmenting is None:
            return _whole(model, bulk, clip)
        longest = bulk.segmenting.max_seconds or longest_unasked(model.manifest)
        if is_longer(clip.path, model.manifest.front_end.log_mel.sample_rate, longest):
            return _in_segments(model, bulk, clip, bulk.segmenting, longest)
        try:
            return _whole(model, bulk, clip)
        except (LongAudioError, RequestMemoryError):  # engines and memory may hold less than a window
            return _in_segments(model, bulk, clip, bulk.segmenting, longest)
    except LongAudioError as error:
        return failed(clip, bulk.profile, LongAudioError(f"{error}; --segments cuts it"))
    except OF_ONE_CLIP as error:
        return failed(clip, bulk.profile, error)


def _whole(model: SpeechLM, bulk: BulkJob, clip: Clip) -> Transcript:
    request = model.submit(
        clip.path, clip.prompt or None, system=bulk.system, profile=bulk.auto, search=bulk.job.search
    )
    return transcript(clip, request.result())


def _in_segments(
    model: SpeechLM, bulk: BulkJob, clip: Clip, segmenting: SegmentOptions, longest: float
) -> Transcript:
    """Segments of one clip share steps with each other, and with other clips.

    A profile is chosen for the longest segment there may be, in seconds, so that a clip has one.
    """
    begin = time.perf_counter()
    profile, reason = model.profile, None
    if bulk.auto is not None:
        choice = model.choose_profile(bulk.auto, longest, model.search_options(bulk.job.search).num_beams)
        profile, reason = choice.profile, choice.reason
    found = model.segments(
        clip.path,
        clip.prompt or None,
        system=bulk.system,
        profile=profile,
        search=bulk.job.search,
        segmenting=segmenting,
        at_once=bulk.max_batch,
    )
    segments = list(found)
    milliseconds = (time.perf_counter() - begin) * 1e3
    return transcript_of(clip, profile, reason, segments, found.audio_seconds, milliseconds)


def _work(model: SpeechLM, bulk: BulkJob, desk: _Desk) -> None:
    while (clip := desk.receive()) is not None:
        try:
            desk.send(transcribe_clip(model, bulk, clip))
        except FastAdaSPError as error:
            desk.send(error)


class _Desk:
    """The pipe, which several threads share."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._in, self._out, self._closed = pipe, threading.Lock(), threading.Lock(), False

    def receive(self) -> Clip | None:
        """The next clip; None when there are no more."""
        with self._in:
            clip: Clip | None = None if self._closed else self._pipe.recv()
            self._closed = clip is None
            return clip

    def send(self, message: Message) -> None:
        """To the parent."""
        with self._out:
            self._pipe.send(message)


def _end_at_once(raised: Any) -> None:
    """A fault of the program in one thread ends the process, so that the parent sees it and not a silence."""
    sys.__excepthook__(raised.exc_type, raised.exc_value, raised.exc_traceback)
    os._exit(1)
