"""AIFF, CAF, AU, NIST Sphere: the sizes in their headers, checked, and set right where they were unknown."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from ..recording import Recording
from . import media
from .chunks import CAF, IFF, Chunk, Layout, is_chunk, walk
from .decode import Block, Link, Stretch, decode, stream_of
from .extent import Claim, resolve

MAX_FORMAT = 1 << 10  # bytes of a format chunk that are read
UNKNOWN = (0, 0x7FFFFFFF, 0xFFFFFFFF, -1)  # sizes of writers to a pipe
# Of AIFF: bytes of a sample by compression; 0 where the header says how many bits it has.
AIFF_BYTES = {b"NONE": 0, b"twos": 0, b"sowt": 0, b"raw ": 1, b"in24": 3, b"in32": 4, b"ulaw": 1, b"ULAW": 1}
AIFF_BYTES |= {b"alaw": 1, b"ALAW": 1, b"fl32": 4, b"FL32": 4, b"fl64": 8, b"FL64": 8}
CAF_CODECS = (b"lpcm", b"ulaw", b"alaw", b"alac")  # which libsndfile decodes
CAF_EDITS = 4  # bytes in front of the samples
AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}  # encoding -> bytes of a sample
AU_HEADER = 24  # bytes
NIST_HEADER = 1024  # bytes
NIST_FIELD = re.compile(
    rb"^(sample_count|sample_n_bytes|channel_count|sample_rate) -\w+ (\d{1,12})\s*$", re.MULTILINE
)


def aiff(recording: Recording, start: int) -> Iterator[Block]:
    """AIFF and AIFC."""
    found = _find(recording, IFF, start + 12, (b"COMM", b"SSND"))
    raw = recording.read(found[b"COMM"].start, min(found[b"COMM"].size, MAX_FORMAT))
    chunk, head = found[b"SSND"], recording.read(found[b"SSND"].start, 8)
    if len(raw) < 18 or len(head) < 8:
        raise recording.cut_short("its header does not end")
    channels, frames, bits = struct.unpack(">HIH", raw[:8])
    rate, compression = _extended(raw[8:18]), raw[18:22] or b"NONE"
    if not rate or not channels:
        raise recording.unknown(f"{channels} channels at {rate} Hz")
    frame_bytes = channels * (AIFF_BYTES[compression] or (bits + 7) // 8) if compression in AIFF_BYTES else 0
    skipped = 8 + int.from_bytes(head[:4], "big")
    claim = Claim(chunk.start + skipped, chunk.size - skipped, chunk.size not in UNKNOWN, frame_bytes * rate)
    samples = _resolve(recording, IFF, claim, b"FORM")
    size = samples.end - samples.start
    if claim.is_known and frames * frame_bytes > size:
        raise recording.cut_short(f"{size} bytes of samples, its header promises {frames * frame_bytes}")
    count = size // frame_bytes if frame_bytes else frames
    common = raw[:2] + struct.pack(">I", count) + raw[6:]
    body = b"COMM" + struct.pack(">I", len(common)) + common + b"\0" * (len(common) % 2)
    body = recording.read(start + 8, 4) + body + b"SSND" + struct.pack(">III", size + 8, 0, 0)
    header = b"FORM" + struct.pack(">I", len(body) + size) + body
    recording.check_length(count if frame_bytes else 0, rate)
    return decode(recording, [Link((header, samples), expected=count if frame_bytes else None)])


def caf(recording: Recording, start: int) -> Iterator[Block]:
    """CAF; codecs that libsndfile does not have are left to PyAV."""
    found = _find(recording, CAF, start + 8, (b"desc", b"data"))
    raw, chunk = recording.read(found[b"desc"].start, 32), found[b"data"]
    if len(raw) < 32:
        raise recording.cut_short("its header does not end")
    rate, codec, _, packet_bytes, packet_frames, _, _ = struct.unpack(">d4sIIIII", raw)
    a_second = rate * packet_bytes / packet_frames if packet_frames and 0 < rate < 1e9 else 0.0
    known = chunk.size not in UNKNOWN
    claim = Claim(chunk.start + CAF_EDITS, chunk.size - CAF_EDITS, known, a_second)
    samples = _resolve(recording, CAF, claim, b"caff")
    if codec not in CAF_CODECS:
        return media.blocks(recording, "CAF", "caf", stream_of(recording, [Stretch(start, recording.size)]))
    size = samples.end - samples.start
    count = size // packet_bytes * packet_frames if packet_bytes else None
    recording.check_length(count or 0, int(rate) if 0 < rate < 1e9 else 0)
    patched = struct.pack(">q", size + CAF_EDITS)
    pieces = (Stretch(start, chunk.start - 8), patched, Stretch(chunk.start, recording.size))
    return decode(recording, [Link(pieces, expected=count)])


def au(recording: Recording, start: int) -> Iterator[Block]:
    """AU of either byte order."""
    header = recording.read(start, AU_HEADER)
    if len(header) < AU_HEADER:
        raise recording.cut_short("its header does not end")
    order = ">" if header.startswith(b".snd") else "<"
    offset, size, encoding, rate, channels = struct.unpack(f"{order}5I", header[4:])
    frame_bytes = AU_BYTES.get(encoding, 0) * channels
    claim = Claim(start + offset, size, size not in UNKNOWN, frame_bytes * rate)
    samples = _resolve(recording, None, claim, header[:4])
    size = samples.end - samples.start
    count = size // frame_bytes if frame_bytes else None
    recording.check_length(count or 0, rate)
    patched = header[:4] + struct.pack(f"{order}II", AU_HEADER, size) + header[12:]
    return decode(recording, [Link((patched, samples), expected=count)])


def nist(recording: Recording, start: int) -> Iterator[Block]:
    """NIST Sphere, the format of many corpora of speech."""
    header = recording.read(start, NIST_HEADER)
    number = {name: int(value) for name, value in NIST_FIELD.findall(header)}
    missing = {b"sample_count", b"sample_n_bytes", b"channel_count", b"sample_rate"} - set(number)
    if missing or header[8:16].strip() != b"1024":
        raise recording.error(
            "has a header of NIST Sphere without length, rate or channels; convert it to wav"
        )
    frame_bytes = number[b"sample_n_bytes"] * number[b"channel_count"]
    count, rate = number[b"sample_count"], number[b"sample_rate"]
    claim = Claim(start + NIST_HEADER, count * frame_bytes, True, frame_bytes * rate)
    samples = _resolve(recording, None, claim, b"NIST")
    if samples.end > claim.end:
        raise recording.damaged(f"{samples.end - claim.end} bytes follow the {count} samples of its header")
    recording.check_length(count, rate)
    return decode(recording, [Link((Stretch(start, samples.end),), expected=count)])


def _find(recording: Recording, layout: Layout, start: int, names: tuple[bytes, ...]) -> dict[bytes, Chunk]:
    """The first chunks of these names."""
    found: dict[bytes, Chunk] = {}
    for chunk in walk(recording, layout, start):
        if chunk.name in names:
            found.setdefault(chunk.name, chunk)
        if len(found) == len(names):
            return found
    missing = " and ".join(name.decode() for name in names if name not in found)
    raise recording.cut_short(f"its chunk {missing} is missing")


def _resolve(recording: Recording, layout: Layout | None, claim: Claim, magic: bytes) -> Stretch:
    """The bytes that are samples; `magic` is how a file begins that was appended.

    Raises `AudioError` for samples that are cut short, and for several files in one.
    """
    behind = claim.end + claim.end % 2 if layout is IFF else claim.end

    def is_next(at: int) -> bool:
        return recording.peek(at, 4) == magic or (layout is not None and is_chunk(recording, layout, at))

    samples = resolve(recording, claim, is_next, behind)
    if samples.end == claim.end and _is_joined(recording, layout, behind, magic):
        raise recording.error("holds several files, one after the other; give them one by one")
    return samples


def _is_joined(recording: Recording, layout: Layout | None, behind: int, magic: bytes) -> bool:
    if recording.peek(behind, 4) == magic:
        return True
    return layout is not None and any(chunk.name == magic for chunk in walk(recording, layout, behind))


def _extended(raw: bytes) -> int:
    """A number of 80 bits, as AIFF writes rates, rounded down; 0 where it is none that a rate can be."""
    exponent = int.from_bytes(raw[:2], "big") - 16383 - 63
    if not -64 < exponent <= 0:
        return 0
    return int.from_bytes(raw[2:], "big") >> -exponent
