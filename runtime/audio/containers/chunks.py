"""Files made of chunks, each with a name and a size: RIFF, IFF, Wave64 and CAF differ in numbers only."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ..recording import Recording

# Names of chunks that stand behind samples, and of files that were appended: known even when they are cut.
_NAMES = (
    b"LIST list id3  ID3  bext iXML _PMX cue  smpl inst fact PEAK peak JUNK junk PAD  FLLR free acid "
    b"cart levl umid DISP strc plst afsp axml chna minf elm1 regn ovwf ovvw COMT NAME AUTH ANNO (c)  "
    b"MARK mark INST APPL MIDI midi AESD SAXL CHAN chan COMM FVER pakt info kuki strg edct uuid RIFF "
    b"RIFX RF64 BW64 riff FORM"
)
KNOWN = frozenset(_NAMES[at : at + 4] for at in range(0, len(_NAMES), 5))
MAX_CHUNKS = 10_000  # of one file; more are no audio file but an attack on the reader


class Chunk(NamedTuple):
    """A chunk as its header describes it: `size` bytes from `start` on, which may be more than there are."""

    name: bytes
    start: int
    size: int


@dataclass(frozen=True)
class Layout:
    """How the chunks of a family of files are written."""

    name_bytes: int
    size_format: str  # of `struct`
    align: int  # bytes; the next chunk begins at a multiple of them, counted from the first chunk
    counts_header: bool = False  # whether the size includes the chunk's own header

    @property
    def header_bytes(self) -> int:
        """Bytes of name and size."""
        return self.name_bytes + struct.calcsize(self.size_format)

    def chunk(self, recording: Recording, at: int) -> Chunk | None:
        """The chunk whose header stands at `at`, or None where no whole header with a name in ASCII is."""
        header = recording.peek(at, self.header_bytes)
        name = header[: self.name_bytes]
        if len(header) < self.header_bytes or not all(0x20 <= byte < 0x7F for byte in name[:4]):
            return None
        (size,) = struct.unpack(self.size_format, header[self.name_bytes :])
        return Chunk(name, at + self.header_bytes, size - (self.header_bytes if self.counts_header else 0))

    def next(self, chunk: Chunk, origin: int) -> int:
        """Where the chunk after this one begins."""
        end = chunk.start + max(0, chunk.size)
        return end + (origin - end) % self.align


RIFF = Layout(4, "<I", 2)
RIFX = Layout(4, ">I", 2)
IFF = RIFX
CAF = Layout(4, ">q", 1)
WAVE64 = Layout(16, "<Q", 8, counts_header=True)


def walk(recording: Recording, layout: Layout, start: int) -> Iterator[Chunk]:
    """The chunks from `start` on, up to the first place where there is none."""
    at = start
    for _ in range(MAX_CHUNKS):
        if (chunk := layout.chunk(recording, at)) is None:
            return
        yield chunk
        at = layout.next(chunk, start)
    raise recording.damaged(f"more than {MAX_CHUNKS} chunks")


def is_chunk(recording: Recording, layout: Layout, at: int) -> bool:
    """Whether a whole chunk stands at `at`, or a known one that was cut."""
    chunk = layout.chunk(recording, at)
    return chunk is not None and (0 <= chunk.size <= recording.size - chunk.start or chunk.name[:4] in KNOWN)
