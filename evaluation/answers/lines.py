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


def append_lines(stream: FileIO, place: str, *contents: Mapping[str, Any], ascii: bool = True) -> None:
    """Add a line for each, and see them on the disk.

    Args:
        stream: opened unbuffered, for appending.
        place: how messages call the file.
        contents: as JSON takes them.
        ascii: write other letters as escapes, so that any text of Python can be written.

    Raises:
        OutputError: the disk is full, or the like.
    """
    texts = (json.dumps(content, ensure_ascii=ascii) + "\n" for content in contents)
    left = memoryview("".join(texts).encode())
    try:
        while left:  # the system may take a part of it
            left = left[stream.write(left) :]
        os.fsync(stream.fileno())
    except OSError as error:
        raise OutputError(f"{place}: {error.strerror}; free space and run again") from None
