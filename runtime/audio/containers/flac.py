"""FLAC: its frames counted, so that a stream of unknown length is read whole and a joined one to its end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ..recording import Recording
from .decode import Block, Link, Stretch, decode
from .extent import STRAY
from .tags import before_trailing_tags

MAGIC = b"fLaC"
STREAMINFO_BYTES = 34
# A frame, or the header of another stream.
CANDIDATE = re.compile(rb"\xff[\xf8\xf9][\x10-\xff][\0-\xaf]|fLaC[\0\x80]\0\0\x22")
WINDOW, OVERLAP = 1 << 20, 64  # bytes that are searched at once, and what a candidate may need beyond them
MAX_FRAME_HEADER = 16  # bytes
MAX_SAMPLE_BYTES = 5  # that a frame takes for a sample of up to 32 bits, at worst
SAMPLE_RATES = (0, 88200, 176400, 192000, 8000, 16000, 22050, 24000, 32000, 44100, 48000, 96000)  # by code


class StreamInfo(NamedTuple):
    """What the header of a stream says."""

    raw: bytes
    rate: int  # Hz
    channels: int
    total: int  # samples a channel; 0 when the writer did not know

    @property
    def whole(self) -> bytes:
        """The header of a file with these values and nothing else."""
        count = self.total.to_bytes(5, "big")
        middle = bytes((self.raw[13] & 0xF0 | count[0],)) + count[1:]
        return MAGIC + b"\x80\0\0\x22" + self.raw[:13] + middle + self.raw[18:]


class FrameHeader(NamedTuple):
    """What a frame says of its place."""

    number: int  # of the frame, or of its first sample
    samples: int
    counts_samples: bool


@dataclass
class _Stream:
    """A stream while its frames are counted."""

    info: StreamInfo
    start: int  # of the first frame
    samples: int = 0
    frames: int = 0
    first: FrameHeader | None = None
    last: int = 0  # start of the last frame
    last_samples: int = 0

    @property
    def reach(self) -> int:
        """Where the last frame ends, at the latest."""
        return self.last + self.last_samples * self.info.channels * MAX_SAMPLE_BYTES + STRAY

    def accept(self, header: FrameHeader, at: int) -> None:
        """Count a frame, if it is the one that must come next."""
        if self.first is None and at == self.start:
            self.first = header
        elif self.first is None or header.counts_samples != self.first.counts_samples:
            return
        passed = self.samples if header.counts_samples else self.frames
        if header.number == self.first.number + passed:
            self.frames, self.samples = self.frames + 1, self.samples + header.samples
            self.last, self.last_samples = at, header.samples


def blocks(recording: Recording, start: int) -> Iterator[Block]:
    """The audio of a FLAC file, and of those that were appended to it."""
    return decode(recording, list(links(recording, start)))


def links(recording: Recording, start: int) -> Iterator[Link]:
    """One link for each stream in the file.

    Raises `AudioError` where frames are missing at the end or in the middle.
    """
    stream = _open(recording, start)
    end = before_trailing_tags(recording, stream.start)
    for at, found in _candidates(recording, stream.start, end):
        if at < stream.start:
            continue  # within the header
        if found == MAGIC:
            yield _link(recording, stream, at)
            stream = _open(recording, at)
        else:
            header = parse_frame(recording.peek(at, MAX_FRAME_HEADER), stream.info)
            if header:
                stream.accept(header, at)
            _check_progress(recording, stream, at)
    yield _link(recording, stream, end)


def _open(recording: Recording, start: int) -> _Stream:
    """The stream whose header begins at `start`."""
    at, info = start + len(MAGIC), None
    while True:
        head = recording.peek(at, 4)
        if len(head) < 4:
            raise recording.cut_short("its header does not end")
        size = int.from_bytes(head[1:], "big")
        if info is None:
            info = _parse_info(recording, at + 4, size if head[0] & 0x7F == 0 else 0)
        at += 4 + size
        if at > recording.size:
            raise recording.cut_short("its header does not end")
        if head[0] & 0x80:
            recording.check_length(info.total, info.rate)
            return _Stream(info, at, last=at)


def _parse_info(recording: Recording, start: int, size: int) -> StreamInfo:
    raw = recording.read(start, STREAMINFO_BYTES)
    if size != STREAMINFO_BYTES:
        raise recording.unknown("a FLAC header without stream information")
    if len(raw) < STREAMINFO_BYTES:
        raise recording.cut_short("its header does not end")
    return parse_info(raw)


def parse_info(raw: bytes) -> StreamInfo:
    """The content of a STREAMINFO block (34 bytes)."""
    bits = int.from_bytes(raw[10:18], "big")  # rate 20, channels - 1: 3, bits - 1: 5, total 36
    return StreamInfo(raw, bits >> 44, (bits >> 41 & 7) + 1, bits & (1 << 36) - 1)


def _candidates(recording: Recording, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Where frames or headers may begin, with the first bytes there."""
    for window in range(start, end, WINDOW):
        data = recording.read(window, min(WINDOW + OVERLAP, end - window))
        for found in CANDIDATE.finditer(data):
            if found.start() < WINDOW:
                yield window + found.start(), found.group()[:4]


def parse_frame(head: bytes, info: StreamInfo) -> FrameHeader | None:
    """The header of a frame of this stream, or None when the bytes are none (RFC 9639, section 9.1)."""
    if len(head) < 6 or head[3] & 1:
        return None
    block_code, rate_code = head[2] >> 4, head[2] & 15
    number, at = _coded_number(head, 4)
    block_bytes = {6: 1, 7: 2}.get(block_code, 0)
    rate_bytes = {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    end = at + block_bytes + rate_bytes
    if number < 0 or not block_code or rate_code == 15 or len(head) <= end or _crc8(head[:end]) != head[end]:
        return None
    samples = _block_size(block_code, int.from_bytes(head[at : at + block_bytes], "big"))
    rate = _rate(rate_code, int.from_bytes(head[at + block_bytes : end], "big"))
    channel_code = head[3] >> 4
    channels = channel_code + 1 if channel_code < 8 else 2
    if rate not in (0, info.rate) or channels != info.channels:
        return None
    return FrameHeader(number, samples, bool(head[1] & 1))


def _block_size(code: int, extra: int) -> int:
    if code in (6, 7):
        return extra + 1
    return 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8


def _rate(code: int, extra: int) -> int:
    """Hz; 0 where the frame leaves it to the stream."""
    return SAMPLE_RATES[code] if code < 12 else extra * {12: 1000, 13: 1, 14: 10}[code]


def _coded_number(head: bytes, at: int) -> tuple[int, int]:
    """A number in the manner of UTF-8, up to 36 bits, and where it ends; -1 when it is none."""
    first = head[at]
    ones = 8 - (first ^ 0xFF).bit_length()
    if ones == 0:
        return first, at + 1
    tail = head[at + 1 : at + ones]
    if ones in (1, 8) or len(tail) < ones - 1 or any(byte >> 6 != 2 for byte in tail):
        return -1, at
    number = first & (0x7F >> ones)
    for byte in tail:
        number = number << 6 | byte & 0x3F
    return number, at + ones


def _check_progress(recording: Recording, stream: _Stream, at: int) -> None:
    """Refuse a gap before `at`, what the header does not allow, and too much where it says nothing."""
    info, samples = stream.info, stream.samples
    if at > stream.reach:
        raise recording.damaged(f"no frame can be found behind the {samples} samples of its first ones")
    if info.total and samples > info.total:
        raise recording.damaged(f"more samples follow than the {info.total} that its header promises")
    if not info.total:
        recording.check_length(samples, info.rate)


def _link(recording: Recording, stream: _Stream, end: int) -> Link:
    info, samples = stream.info, stream.samples
    if info.total and samples < info.total:
        raise recording.cut_short(f"{samples} of {info.total} samples")
    _check_progress(recording, stream, end)
    if samples and not info.total and _crc16(recording.read(stream.last, end - stream.last)):
        raise recording.cut_short(f"its last frame, of {samples} samples in all, does not end")
    header = info._replace(total=samples).whole
    return Link((header, Stretch(stream.start, end)), expected=samples)


def _table(bits: int, polynomial: int) -> tuple[int, ...]:
    def entry(value: int) -> int:
        value <<= bits - 8
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> bits - 1 & 1 else 0)
        return value & (1 << bits) - 1

    return tuple(entry(value) for value in range(256))


CRC8, CRC16 = _table(8, 0x07), _table(16, 0x8005)


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value = CRC8[value ^ byte]
    return value


def _crc16(data: bytes) -> int:
    value = 0
    for byte in data:
        value = value << 8 & 0xFFFF ^ CRC16[value >> 8 ^ byte]
    return value
