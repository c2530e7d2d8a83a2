"""WAV and its kin for long files (RF64, BW64, Wave64): which bytes are samples, whatever the sizes say."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ..recording import Recording
from . import mp3
from .chunks import RIFF, RIFX, WAVE64, Chunk, Layout, is_chunk, walk
from .decode import Block, Link, Stretch, decode
from .extent import Claim, resolve

# Format tags.
PCM = (1, 3, 6, 7)  # integers, floats, A-law, mu-law: a sample has its bytes
GSM = 0x31
MPEG = (0x50, 0x55)
OTHERS = (2, 0x11, GSM, 0x38, 0x40)  # ADPCM of Microsoft, IMA, NMS and G.721
EXTENSIBLE = 0xFFFE
MAX_FORMAT = 1 << 10  # bytes of a `fmt ` chunk that are read
SLICE = 1 << 30  # bytes of PCM in one link, whose sizes then fit 32 bits


@dataclass(frozen=True)
class Kind:
    """A member of the family."""

    layout: Layout
    first_chunk: int  # offset in the file
    unknown_sizes: tuple[range, ...]  # by which writers to a pipe say that they do not know the length

    @property
    def order(self) -> str:
        """Byte order, as `struct` writes it."""
        return self.layout.size_format[0]


# The largest number of 31, 32, 63 or 64 bits, less headers and what does not fill a block.
NEAR_32 = (range(0x7FFF0000, 0x80000001), range(0xFFFF0000, 0x100000000))
NEAR_64 = (range((1 << 63) - (1 << 16), (1 << 63) + 1), range((1 << 64) - (1 << 16), 1 << 64))
KINDS = {
    b"RIFF": Kind(RIFF, 12, NEAR_32),
    b"RIFX": Kind(RIFX, 12, NEAR_32),
    b"RF64": Kind(RIFF, 12, NEAR_32 + NEAR_64),
    b"BW64": Kind(RIFF, 12, NEAR_32 + NEAR_64),
    b"riff": Kind(WAVE64, 40, NEAR_64),
}


@dataclass(frozen=True)
class Format:
    """What a `fmt ` chunk says of the samples."""

    raw: bytes
    codec: int  # format tag
    channels: int
    rate: int  # Hz
    bytes_a_second: int
    block_bytes: int


@dataclass(frozen=True)
class Wav:
    """One file, in a recording that may hold several."""

    kind: Kind
    format: Format
    fact: bytes  # the chunk in which some codecs keep the number of samples
    samples: Stretch


def blocks(recording: Recording, start: int) -> Iterator[Block]:
    """The audio of a WAV file, and of those that were appended to it."""
    wavs = list(_files(recording, start))
    for wav in wavs:
        if wav.format.codec in MPEG:
            yield from mp3.blocks(recording, *wav.samples)
        else:
            yield from decode(recording, list(_links(wav)))


def _files(recording: Recording, start: int) -> Iterator[Wav]:
    at: int | None = start
    while at is not None:
        kind = KINDS[recording.peek(at, 4)]
        wav, behind = _parse(recording, kind, at)
        yield wav
        at = _next_file(recording, kind, behind)


def _parse(recording: Recording, kind: Kind, start: int) -> tuple[Wav, int]:
    """The file that begins at `start`, and where the chunks behind its samples begin."""
    form: Format | None = None
    fact, long_size = b"", 0
    for chunk in walk(recording, kind.layout, start + kind.first_chunk):
        name = chunk.name[:4]
        if name == b"fmt ":
            form = _parse_format(recording, kind, chunk)
        elif name == b"fact":
            fact = recording.read(chunk.start, max(0, min(chunk.size, 8)))
        elif name == b"ds64":
            long_size = int.from_bytes(recording.read(chunk.start + 8, 8), "little")
        elif name == b"data":
            if form is None:
                break
            sized = chunk._replace(size=long_size) if chunk.size == 0xFFFFFFFF and long_size else chunk
            samples, behind = _samples(recording, kind, sized, form)
            if form.codec in PCM and form.block_bytes:
                recording.check_length((samples.end - samples.start) // form.block_bytes, form.rate)
            return Wav(kind, form, fact, samples), behind
    raise recording.cut_short("its header has no chunk of samples, or no format before it")


def _parse_format(recording: Recording, kind: Kind, chunk: Chunk) -> Format:
    size = max(16, min(chunk.size, MAX_FORMAT))
    raw = recording.read(chunk.start, size)
    if len(raw) < size:
        raise recording.cut_short("its header does not end")
    codec, channels, rate, bytes_a_second, block_bytes = struct.unpack(f"{kind.order}HHIIH", raw[:14])
    if codec == EXTENSIBLE and len(raw) >= 26:
        (codec,) = struct.unpack(f"{kind.order}H", raw[24:26])
    if not rate or not channels:
        raise recording.unknown(f"{channels} channels at {rate} Hz")
    if codec not in (*PCM, *MPEG, *OTHERS):
        raise recording.error(
            f"holds codec 0x{codec:04x}, which is not read in wav; convert it to 16-bit wav"
        )
    return Format(raw, codec, channels, rate, bytes_a_second, block_bytes)


def _samples(recording: Recording, kind: Kind, chunk: Chunk, form: Format) -> tuple[Stretch, int]:
    """The bytes that are samples, and where the chunks behind them begin."""
    known = not any(chunk.size in sizes for sizes in kind.unknown_sizes)
    claim = Claim(chunk.start, chunk.size, known, form.bytes_a_second)
    padded = kind.layout.next(chunk, chunk.start)
    behind = claim.end if is_chunk(recording, kind.layout, claim.end) else padded  # not all writers pad
    found = resolve(recording, claim, lambda at: is_chunk(recording, kind.layout, at), behind)
    return found, behind if found.end == claim.end else found.end


def _next_file(recording: Recording, kind: Kind, behind: int) -> int | None:
    """Where another file of the family begins, among the chunks behind the samples."""
    for chunk in walk(recording, kind.layout, behind):
        if chunk.name[:4] in KINDS:
            return chunk.start - kind.layout.header_bytes
        if chunk.name[:4] == b"data":
            raise recording.error("holds samples in more than one place; convert it to wav again")
    return None


def _links(wav: Wav) -> Iterator[Link]:
    """The samples under headers with the right sizes, which leave libsndfile nothing to guess."""
    start, end = wav.samples
    if wav.format.codec == GSM and wav.format.block_bytes:  # libsndfile decodes part of a block as noise
        end -= (end - start) % wav.format.block_bytes
    frame = wav.format.block_bytes if wav.format.codec in PCM else 0
    step = SLICE - SLICE % frame if frame else max(1, end - start)
    for at in range(start, end, step):
        piece = Stretch(at, min(end, at + step))
        size = piece.end - piece.start
        yield Link((_header(wav, size), piece), expected=size // frame if frame else None)


def _header(wav: Wav, size: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return name + struct.pack(f"{wav.kind.order}I", len(content)) + content + b"\0" * (len(content) % 2)

    before = chunk(b"fmt ", wav.format.raw) + (chunk(b"fact", wav.fact) if wav.fact else b"")
    magic = b"RIFF" if wav.kind.order == "<" else b"RIFX"
    sizes = [struct.pack(f"{wav.kind.order}I", number) for number in (4 + len(before) + 8 + size, size)]
    return magic + sizes[0] + b"WAVE" + before + b"data" + sizes[1]
