"""Lines of JSON added to a file one by one: each is on the disk at once, and a torn one is cut off."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from io import FileIO
from typing import Any

from ...profiles.errors import OutputError

BLOCK = 1 << 20  # bytes read at a time


def whole_lines(stream: FileIO) -> Iterator[bytes]:
    """The lines that were written to their end, without it; what follows the last of them is cut off."""
    stream.seek(0)
    rest, whole = b"", 0
    while block := stream.read(BLOCK):
        *lines, rest = (rest + block).split(b"\n")
        whole += sum(len(line) + 1 for line in lines)
        yield from lines
    if rest:
        stream.truncate(whole)


def append_line(stream: FileIO, place: str, content: Mapping[str, Any], *, ascii: bool = True) -> None:
    """Add a line, and see it on the disk.

    Args:
        stream: opened unbuffered, for appending.
        place: how messages call the file.
        content: as JSON takes it.
        ascii: write other letters as escapes, so that any text of Python can be written.

    Raises:
        OutputError: the disk is full, or the like.
    """
    line = memoryview(json.dumps(content, ensure_ascii=ascii).encode() + b"\n")
    try:
        while line:  # the system may take a part of it
            line = line[stream.write(line) :]
        os.fsync(stream.fileno())
    except OSError as error:
        raise OutputError(f"{place}: {error.strerror}; free space and run again") from None
