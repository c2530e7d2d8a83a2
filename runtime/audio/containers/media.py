"""Audio of browsers and phones, decoded by PyAV where it is installed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..recording import Recording
from .decode import Block, Frames

INSTALL = 'pip install "fastadasp-export[media]"'
MICROSECONDS = 1_000_000  # of a second, in which PyAV counts the length of a file
WITH_LENGTH = ("mov", "matroska", "asf")  # demuxers of files whose header says how long they are
WITH_INDEX = "mov"  # and how long each track is
MISSING_SECONDS = 0.25  # that a track may fall short of its header


def blocks(recording: Recording, name: str, demuxer: str, stream: io.BufferedReader) -> Iterator[Block]:
    """The only audio track of a stream that is whole.

    FFmpeg is told which of its demuxers to take, since some of them open other files that a file names.

    Raises `AudioError` without PyAV, for several tracks or none, and where the track cannot be decoded.
    """
    av = _pyav(recording, name)
    try:
        with av.open(stream, format=demuxer, metadata_errors="replace") as container:
            track = _track(recording, name, container)
            if demuxer in WITH_LENGTH:
                recording.check_length(container.duration or 0, MICROSECONDS)
            seconds = 0.0
            for frame in container.decode(track):
                seconds += frame.samples / frame.sample_rate
                yield Block(_frames(recording, frame), frame.sample_rate)
            if demuxer == WITH_INDEX:
                _check_seconds(recording, track, seconds)
    except av.error.FFmpegError as error:
        recording.check_disk()
        raise recording.damaged(f"FFmpeg cannot decode it ({error.strerror})") from None
    recording.check_disk()


def _pyav(recording: Recording, name: str) -> Any:
    try:
        import av
    except ImportError:
        raise recording.error(f"is {name}, which PyAV decodes: {INSTALL}, or convert it to wav") from None
    return av


def _track(recording: Recording, name: str, container: Any) -> Any:
    tracks = container.streams.audio
    if len(tracks) != 1:
        count = len(tracks) or "no"
        raise recording.error(f"is {name} with {count} tracks of audio; give the wanted one as a file")
    if tracks[0].codec_context is None:
        raise recording.error(f"is {name} with a codec that FFmpeg does not have; convert it to wav")
    return tracks[0]


def _frames(recording: Recording, frame: Any) -> Frames:
    """(n, channels) float32 of a frame, in which channels may lie one after the other."""
    values = frame.to_ndarray()
    channels = frame.layout.nb_channels
    values = values.T if frame.format.is_planar else values.reshape(-1, channels)
    if values.dtype.kind == "u":
        return np.asarray((values.astype(np.float32) - 128) / 128, np.float32)
    scale = 1.0 if values.dtype.kind == "f" else 2.0 ** (1 - 8 * values.dtype.itemsize)
    return np.ascontiguousarray(values, np.float32) * np.float32(scale)


def _check_seconds(recording: Recording, track: Any, seconds: float) -> None:
    """FFmpeg ends a track early, without an error, where an index points to nowhere."""
    promised = float(track.duration * track.time_base) if track.duration and track.time_base else 0.0
    if seconds < promised - MISSING_SECONDS:
        raise recording.cut_short(f"{seconds:.1f} of {promised:.1f} s")
