"""The bytes of an audio file, wherever they come from, as the readers of containers see them."""

from __future__ import annotations

import io
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from ...profiles.errors import AudioError

Files = str | os.PathLike[str] | BinaryIO | bytes | bytearray | memoryview
CheckLength = Callable[[str, float], None]  # (place, seconds); raises AudioError when that is too long

REMEDY = "give a wav, flac, ogg or mp3 file"
COPY_AGAIN = "copy the whole file again, or convert what there is to wav"
IN_MEMORY = 1 << 26  # bytes of a stream that are kept in memory; the rest goes to a temporary file
MAX_STREAM = 1 << 32  # bytes
CHUNK = 1 << 20  # bytes
PEEK = 1 << 16  # bytes


class Recording:
    """Bytes that can be read at any place, with the name that messages give them."""

    def __init__(self, stream: BinaryIO, place: str, check_length: CheckLength | None = None) -> None:
        self.place, self.size = place, _size(stream, place)
        self._stream, self._check_length = stream, check_length
        self._fault: OSError | None = None
        self._peeked, self._peeked_at = b"", 0

    def over(self, stream: BinaryIO) -> Recording:
        """Bytes that were made of this one's, under its name and for its request."""
        return Recording(stream, self.place, self._check_length)

    def read(self, start: int, size: int) -> bytes:
        """At most `size` bytes from `start` on; fewer at the end, and where the disk fails (`check_disk`)."""
        if not 0 <= start < self.size:
            return b""
        try:
            self._stream.seek(start)
            return self._stream.read(min(size, self.size - start))
        except OSError as error:  # kept, because a C library that calls back cannot pass it on
            self._fault = error
            return b""

    def peek(self, start: int, size: int) -> bytes:
        """As `read`, fast for many small pieces one after the other."""
        offset = start - self._peeked_at
        if not 0 <= offset <= len(self._peeked) - size:
            self._peeked, self._peeked_at, offset = self.read(start, max(size, PEEK)), start, 0
        return self._peeked[offset : offset + size]

    def check_disk(self) -> None:
        """Raise the `AudioError` of a read that failed."""
        if self._fault:
            raise _unreadable(self.place, self._fault)

    def check_length(self, frames: int, rate: int) -> None:
        """Refuse a length in samples a channel, promised or decoded, that is more than can be taken."""
        if self._check_length and frames > 0 and rate > 0:
            self._check_length(self.place, frames / rate)

    def check_wanted(self) -> None:
        """Let a reader of many small parts, which tell no length, end where its request does."""
        if self._check_length:
            self._check_length(self.place, 0.0)

    def error(self, fault: str) -> AudioError:
        """`fault` goes on after the name of the recording; a disk that failed is the cause of all others."""
        return _unreadable(self.place, self._fault) if self._fault else AudioError(f"{self.place} {fault}")

    def cut_short(self, found: str) -> AudioError:
        """For a container that says that there was more."""
        return self.error(f"is cut short: {found}; {COPY_AGAIN}")

    def damaged(self, what: str) -> AudioError:
        """For bytes in the middle that cannot be what was written."""
        return self.error(f"is corrupt: {what}; copy the file again, or convert it to wav")

    def unknown(self, reason: str = "") -> AudioError:
        """For a file that is no audio, as far as can be told."""
        why = f" ({reason})" if reason else ""
        return self.error(f"is corrupt or of an unknown format{why}; {REMEDY}")


@contextmanager
def open_recording(source: Files, place: str, check_length: CheckLength | None = None) -> Iterator[Recording]:
    """Open a path, the bytes of a file, or a binary stream, which is read to its end.

    A stream over a file of which nothing has been read is not: the file is opened once more, and not copied.
    Raises `AudioError` for what is missing, empty, no file, or cannot be read.
    """
    with _open(source, place) as stream:
        recording = Recording(stream, place, check_length)
        if not recording.size:
            raise recording.error(f"is empty (0 bytes); {REMEDY}")
        yield recording
        recording.check_disk()


def _open(source: Files, place: str) -> BinaryIO:
    if isinstance(source, str | os.PathLike):
        return _open_path(Path(source), place)
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source)
    if isinstance(source, io.TextIOBase):
        raise AudioError(f"{place}: the stream is open as text; open it with mode 'rb'")
    with suppress(OSError, ValueError):  # one that may not be opened again is copied as other streams are
        if _is_unread_file(source):
            return Path(f"/proc/self/fd/{source.fileno()}").open("rb")
    return _spool(source, place)


def _is_unread_file(stream: BinaryIO) -> bool:
    """Whether its bytes lie in a regular file, from the beginning on."""
    if type(stream) is not io.BufferedReader or type(stream.raw) is not io.FileIO or stream.closed:
        return False
    return stat.S_ISREG(os.fstat(stream.fileno()).st_mode) and stream.tell() == 0


def _open_path(path: Path, place: str) -> BinaryIO:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise AudioError(f"{place} is a folder; {REMEDY}")
        if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
            raise AudioError(f"{place} is a device or socket; {REMEDY}")
        if stat.S_ISREG(mode):
            return path.open("rb")
        with path.open("rb") as pipe:
            return _spool(pipe, place)
    except AudioError:  # which is a ValueError, too
        raise
    except FileNotFoundError:
        raise AudioError(f"{place} does not exist; {REMEDY}") from None
    except OSError as error:
        raise _unreadable(place, error) from None
    except ValueError as error:  # a NUL byte in the path
        raise AudioError(f"{place!r} is no path ({error}); {REMEDY}") from None


def _spool(stream: Any, place: str) -> BinaryIO:
    """A seekable copy of a stream."""
    with ExitStack() as stack:
        copy: Any = stack.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY))
        while data := _next_bytes(stream, place):
            _keep(copy, data, place)
            if copy.tell() > MAX_STREAM:
                raise AudioError(f"{place} goes on after {MAX_STREAM >> 30} GiB; give a file that ends")
        stack.pop_all()  # the caller closes it
        return copy  # type: ignore[no-any-return]


def _keep(copy: Any, data: bytes, place: str) -> None:
    try:
        copy.write(data)
    except OSError as error:
        where = tempfile.gettempdir()
        raise AudioError(f"{place} cannot be kept in {where}: {error.strerror}; make room there") from None


def _next_bytes(stream: Any, place: str) -> bytes:
    try:
        data = stream.read(CHUNK)
    except OSError as error:
        raise _unreadable(place, error) from None
    except ValueError as error:
        raise AudioError(f"{place} cannot be read: {error}; open it before it is given") from None
    if not isinstance(data, bytes):
        raise AudioError(
            f"{place}: the stream gives {type(data).__name__}, not bytes; open it with mode 'rb'"
        )
    return data


def _size(stream: BinaryIO, place: str) -> int:
    try:
        return stream.seek(0, io.SEEK_END)
    except OSError as error:
        raise _unreadable(place, error) from None


def _unreadable(place: str, error: OSError) -> AudioError:
    return AudioError(f"{place} cannot be read: {error.strerror or error}; check its path and permissions")
