"""Hashes of files that may be tens of gigabytes: whole, or by sampled blocks."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from io import RawIOBase
from pathlib import Path

CHUNK_BYTES = 1 << 20
SAMPLE_BYTES = 64 << 10
SAMPLES = 64
ZEROS = memoryview(bytes(CHUNK_BYTES))


def sha256(path: Path) -> str:
    """The SHA-256 of a whole file, as `sha256sum` prints it."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        for chunk in _chunks(stream, path.stat().st_size):
            digest.update(chunk)
    return digest.hexdigest()


def sampled_sha256(path: Path) -> str:
    """The SHA-256 of `SAMPLES` evenly spaced blocks, the first and the last among them."""
    digest, last = hashlib.sha256(), max(0, path.stat().st_size - SAMPLE_BYTES)
    with path.open("rb") as stream:
        for offset in sorted({last * i // (SAMPLES - 1) for i in range(SAMPLES)}):
            stream.seek(offset)
            digest.update(stream.read(SAMPLE_BYTES))
    return digest.hexdigest()


def _chunks(stream: RawIOBase, size: int) -> Iterator[memoryview]:
    """The content in pieces. Holes of a sparse file are zeros that need not be read."""
    buffer = memoryview(bytearray(CHUNK_BYTES))
    for start, end, is_hole in _extents(stream, size):
        stream.seek(start)
        while start < end:
            wanted = min(CHUNK_BYTES, end - start)
            got = wanted if is_hole else stream.readinto(buffer[:wanted])
            if not got:
                return  # the file has shrunk; its hash will not match
            yield (ZEROS if is_hole else buffer)[:got]
            start += got


def _extents(stream: RawIOBase, size: int) -> Iterator[tuple[int, int, bool]]:
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


def _seek(stream: RawIOBase, start: int, kind: str, size: int) -> int:
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
