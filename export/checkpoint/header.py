"""A safetensors header: accepted where the safetensors library accepts it, and explained where it is not."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...profiles.errors import CheckpointError
from ...profiles.json_text import JsonError, read_json

LENGTH_BYTES = 8  # of the header's length, before it


@dataclass(frozen=True)
class Entry:
    """One tensor of a header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int  # bytes from the start of the file


def read_offsets(file: Path) -> list[Entry]:
    """The tensors of one file, in the order of their bytes.

    Names, types and shapes are those that the library reads; it does not tell offsets, which are read from
    the header that it has accepted: no overlap, no hole, every size as dtype and shape ask for.

    Raises:
        CheckpointError: the library refuses the file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "np") as content:
            slices = {name: content.get_slice(name) for name in content.offset_keys()}
            found = {name: (each.get_dtype(), tuple(each.get_shape())) for name, each in slices.items()}
    except (SafetensorError, UnicodeError) as error:
        raise CheckpointError(f"{file}: {_explained(file, str(error))}") from None
    try:
        header, base = _header(file)
    except JsonError as error:
        raise CheckpointError(f"{file}: its header {error}; copy it again") from None
    return [Entry(name, *found[name], base + _offsets(header[name])[0]) for name in found]


def _header(file: Path) -> tuple[Any, int]:
    """The header as JSON, and the byte at which data begins."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
        return read_json(stream.read(length), lenient=True), LENGTH_BYTES + length


def _offsets(entry: Any) -> tuple[int, int]:
    """First byte and end of an entry, which the library takes as an object or as the list of its values."""
    start, stop = entry[2] if isinstance(entry, list) else entry["data_offsets"]
    return start, stop


def _explained(file: Path, words: str) -> str:
    """Why the library refuses a file, from its words and from what can be read in spite of them."""
    words = words.removeprefix("Error while deserializing header: ")
    if words in ("header too small", "invalid header length", "header too large"):
        return f"not a safetensors file, or cut off inside its header ({words}); copy it again"
    try:
        header, base = _header(file)
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    except (JsonError, AttributeError):
        return f"the safetensors header is damaged ({words}); copy it again"
    if broken := [name for name, entry in entries.items() if not _is_whole(entry)] or [
        name for name, entry in entries.items() if words.startswith("invalid shape") and not _fits(entry)
    ]:
        return f"the safetensors header is damaged ({', '.join(broken[:3])}: {words}); copy it again"
    size = file.stat().st_size
    expected = base + max((_offsets(entry)[1] for entry in entries.values()), default=0)
    if words.startswith("incomplete metadata") and size != expected:
        state = "truncated" if size < expected else "longer than that"
        return f"{size} bytes, its header asks for {expected}; the file is {state}, copy it again"
    return f"the safetensors header is damaged ({words}); copy it again"


def _is_whole(entry: object) -> bool:
    """Whether an entry has the form of one; its numbers are the library's to judge."""
    match entry:
        case {"dtype": str(), "shape": [*_], "data_offsets": [int(), int()]} | [str(), [*_], [int(), int()]]:
            return True
    return False


def _fits(entry: Any) -> bool:
    """Whether dtype and shape ask for as many bytes as an entry has."""
    dtype, shape = entry[:2] if isinstance(entry, list) else (entry["dtype"], entry["shape"])
    start, stop = _offsets(entry)
    bits = re.search(r"\d+", dtype)
    sizes = [size for size in shape if type(size) is int]
    return len(sizes) == len(shape) and 8 * (stop - start) == math.prod(sizes) * int(bits[0] if bits else 8)
