"""Blocks of samples from a stretch of a file that libsndfile decodes by itself, all of it or an error."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..recording import Recording
from .quiet import quiet

Frames = npt.NDArray[np.float32]  # (n, channels), full scale 1.0

BLOCK = 1 << 16  # samples, of all channels, that are decoded at once


class Block(NamedTuple):
    """Decoded samples of all channels, one after the other in time."""

    frames: Frames
    rate: int  # Hz


class Stretch(NamedTuple):
    """Bytes of the recording, from `start` to before `end`."""

    start: int
    end: int


Piece = bytes | Stretch


@dataclass(frozen=True)
class Link:
    """What a decoder is given: a whole file of one stream, made of new bytes and stretches of old ones.

    Chained files give several. Of the frames that come out, `skip` are passed over, then `take` are wanted;
    `expected`, if it is known, is how many there must be in all.
    """

    pieces: Sequence[Piece]
    expected: int | None = None
    skip: int = 0
    take: int | None = None
    silence: bool = False  # whether its decoder writes to stderr


class Spliced(io.RawIOBase):
    """The pieces of a link as one seekable stream."""

    def __init__(self, recording: Recording, pieces: Sequence[Piece]) -> None:
        self._recording = recording
        self._pieces: list[tuple[int, Piece]] = []  # (end in the stream, piece)
        self.size = 0
        for piece in pieces:
            self.size += len(piece) if isinstance(piece, bytes) else piece.end - piece.start
            self._pieces.append((self.size, piece))
        self._at, self._index = 0, 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, at most the end."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at, self._index = min(max(0, base + offset), self.size), 0
        return self._at

    def tell(self) -> int:
        """The place of the next byte."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Bytes of one piece; none at the end."""
        data = self._next(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _next(self, size: int) -> bytes:
        while self._index < len(self._pieces):
            end, piece = self._pieces[self._index]
            if (left := end - self._at) > 0:
                return self._bytes_before_end(piece, left, min(size, left))
            self._index += 1
        return b""

    def _bytes_before_end(self, piece: Piece, left: int, size: int) -> bytes:
        if isinstance(piece, bytes):
            return piece[len(piece) - left :][:size]
        return self._recording.read(piece.end - left, size)


def stream_of(recording: Recording, pieces: Sequence[Piece]) -> io.BufferedReader:
    """The pieces as a stream that C libraries read quickly."""
    return io.BufferedReader(Spliced(recording, pieces), 1 << 16)


def decode(recording: Recording, links: Sequence[Link]) -> Iterator[Block]:
    """The audio of all links, one after the other.

    Raises `AudioError` when one of them cannot be decoded to its end.
    """
    for link in links:
        yield from _decode(recording, link)


def _decode(recording: Recording, link: Link) -> Iterator[Block]:
    """The frames of one link that are wanted."""
    stop, decoded = None if link.take is None else link.skip + link.take, 0
    for frames, rate in _all_frames(recording, link, stop):
        start, decoded = decoded, decoded + len(frames)
        yield Block(frames[max(0, link.skip - start) :], rate)
    if stop is not None and decoded < stop:
        raise recording.damaged(f"{decoded} of {stop} samples can be decoded")
    if link.expected is not None and decoded != link.expected:
        raise recording.damaged(f"{decoded} samples can be decoded, its header promises {link.expected}")


def _all_frames(recording: Recording, link: Link, stop: int | None) -> Iterator[Block]:
    """What libsndfile decodes, up to frame `stop`, behind which there may be none."""
    import soundfile

    hush = quiet if link.silence else nullcontext
    left = stop
    try:
        with hush():
            file = _forward()(stream_of(recording, link.pieces))
        with file:
            block = max(1, BLOCK // file.channels)
            while left is None or left > 0:
                with hush():
                    frames = file.read(block if left is None else min(block, left), "float32", always_2d=True)
                if not len(frames):
                    break
                left = None if left is None else left - len(frames)
                yield Block(frames, file.samplerate)
    except soundfile.LibsndfileError as error:
        recording.check_disk()
        raise recording.unknown(error.error_string.strip().removeprefix("Error : ").rstrip(".")) from None
    recording.check_disk()


@cache
def _forward() -> Any:
    """The class of a sound file that is only read forwards.

    python-soundfile seeks to where it already is after each block. That restarts decoders that look back: in
    MP3 and in ADPCM the samples after each block then differ, and libmpg123 complains on stderr.
    """
    import soundfile

    class Forward(soundfile.SoundFile):  # type: ignore[misc]
        def seekable(self) -> bool:
            return False

    return Forward
