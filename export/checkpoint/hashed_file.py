"""A file that is hashed while it is written, so that nobody has to read it for that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from ...runtime.artifact.hashing import CHUNK_BYTES, new_blake3
from ...runtime.artifact.manifest import FileRecord

Tick = Callable[[int, int], None]
"""Told how many bytes are done, and how many there are in all."""


def counted(tick: Tick, total: int) -> Callable[[int], None]:
    """What takes the bytes of each step, and tells `tick` their sum."""
    done = 0

    def add(count: int) -> None:
        nonlocal done
        done += count
        tick(done, total)

    return add


class HashedFile:
    """A new file, open for writing; `record` is complete once everything is written."""

    def __init__(self, path: Path, size: int, told: Callable[[int], None] = lambda _: None) -> None:
        """Open it.

        Args:
            path: where nothing is yet: what is there may be a link to a checkpoint.
            size: how many bytes are expected, for the number of threads that hash.
            told: called with the number of bytes of each step.

        Raises:
            FileExistsError: something is there.
        """
        self._stream = path.open("xb")
        self._digest, self._size, self._told = new_blake3(size), 0, told

    def write(self, content: bytes | memoryview) -> None:
        """Write and hash bytes, in pieces that are still in the caches when they are written."""
        view = memoryview(content)
        for start in range(0, len(view), CHUNK_BYTES):
            piece = view[start : start + CHUNK_BYTES]
            self._digest.update(piece)
            self._stream.write(piece)
            self._size += len(piece)
            self._told(len(piece))

    @property
    def record(self) -> FileRecord:
        """Size and hash of what was written so far."""
        return FileRecord(self._size, self._digest.hexdigest())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
