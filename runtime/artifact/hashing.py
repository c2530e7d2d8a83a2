"""Hashes of whole files, of up to tens of gigabytes: BLAKE3 for artifacts, SHA-256 for clips and graphs."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

from blake3 import blake3

CHUNK_BYTES = 4 << 20  # less keeps several threads from their work, more falls out of the caches
MOST_THREADS = 8  # which read faster than disks do
ZEROS = memoryview(bytes(CHUNK_BYTES))


def sha256(path: Path) -> str:
    """The SHA-256 of a whole file, as `sha256sum` prints it."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        for chunk in _chunks(stream, path.stat().st_size):
            digest.update(chunk)
    return digest.hexdigest()


def blake3_of(stream: FileIO, size: int, tick: Callable[[int], None] = lambda _: None) -> str:
    """The BLAKE3 hash of the first `size` bytes of an open file, as `b3sum` prints it.

    Args:
        stream: the file; where it stands afterwards is not defined.
        size: its length in bytes.
        tick: told how many more bytes were read, after each piece.
    """
    digest = new_blake3(size)
    _read_in_order(stream)
    for chunk in _chunks(stream, size):
        digest.update(chunk)
        tick(len(chunk))
    return digest.hexdigest()


def new_blake3(size: int) -> blake3:
    """A hash that is fed in pieces; of many bytes with threads of its own, which end with it.

    The library's shared threads (`blake3.AUTO`) would not survive a fork, after which the next hash hangs.
    """
    return blake3(max_threads=1 if size <= CHUNK_BYTES else min(MOST_THREADS, os.cpu_count() or 1))


def _read_in_order(stream: FileIO) -> None:
    """Let the system read further ahead than it does by itself."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)


def _chunks(stream: FileIO, size: int) -> Iterator[memoryview]:
    """The content in pieces. Holes of a sparse file are zeros that need not be read."""
    buffer = memoryview(bytearray(min(CHUNK_BYTES, size)))
    for start, end, is_hole in _extents(stream, size):
        stream.seek(start)
        while start < end:
            wanted = min(CHUNK_BYTES, end - start)
            got = wanted if is_hole else stream.readinto(buffer[:wanted])
            if not got:
                return  # the file has shrunk; its hash will not match
            yield (ZEROS if is_hole else buffer)[:got]
            start += got


def _extents(stream: FileIO, size: int) -> Iterator[tuple[int, int, bool]]:
    """(start, end, is a hole) of the runs of data and holes that make up a file."""
    start = 0
    while start < size:
        data = _seek(stream, start, "SEEK_DATA", size)
        if data > start:
            yield start, data, True
        end = _seek(stream, data, "SEEK_HOLE", size) if data < size else size
        if end > data:
            yield data, end, False
        start = end


def _seek(stream: FileIO, start: int, kind: str, size: int) -> int:
    """The next byte of data, or of a hole, from `start` on; where that is not known, all is data."""
    whence = getattr(os, kind, None)
    if whence is None:
        return start if kind == "SEEK_DATA" else size
    try:
        return os.lseek(stream.fileno(), start, whence)
    except OSError as error:
        if error.errno == errno.ENXIO:  # no data after `start`
            return size
        raise
