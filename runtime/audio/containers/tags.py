"""Tags that stand before, behind and between audio: ID3, APE and Lyrics3."""

from __future__ import annotations

from ..recording import Recording

ID3V1, ID3V1_EXTENDED = 128, 227  # bytes
APE_FOOTER, LYRICS3_END = 32, 15  # bytes
LYRICS3_V1 = 5100  # bytes at most, with its two marks


def leading_tag(recording: Recording, start: int) -> int:
    """Bytes of a tag that begins at `start`; 0 when there is none."""
    head = recording.peek(start, APE_FOOTER)
    if head[:3] == b"ID3" and len(head) > 10 and max(head[6:10]) < 0x80:
        return 10 + _synchsafe(head[6:10]) + (10 if head[5] & 0x10 else 0)
    if head[:8] == b"APETAGEX" and len(head) == APE_FOOTER:
        return APE_FOOTER + int.from_bytes(head[12:16], "little")
    if head[:4] == b"TAG+":
        return ID3V1_EXTENDED
    return ID3V1 if head[:3] == b"TAG" else 0


def after_leading_tags(recording: Recording, start: int) -> int:
    """Where the tags that begin at `start` end."""
    while size := leading_tag(recording, start):
        start += size
    return start


def before_trailing_tags(recording: Recording, start: int) -> int:
    """Where the tags at the end of the recording begin, at the earliest at `start`."""
    end = recording.size
    while (size := _trailing_tag(recording, end)) and end - size >= start:
        end -= size
    return end


def _trailing_tag(recording: Recording, end: int) -> int:
    """Bytes of a tag that ends at `end`; 0 when there is none."""
    tail = recording.read(max(0, end - ID3V1), min(end, ID3V1))
    if len(tail) == ID3V1 and tail.startswith(b"TAG"):
        extended = recording.read(end - ID3V1 - ID3V1_EXTENDED, 4) if end > ID3V1 + ID3V1_EXTENDED else b""
        return ID3V1 + (ID3V1_EXTENDED if extended == b"TAG+" else 0)
    if tail[-APE_FOOTER:].startswith(b"APETAGEX"):
        footer = tail[-APE_FOOTER:]
        header = APE_FOOTER if footer[23] & 0x80 else 0
        return int.from_bytes(footer[12:16], "little") + header
    if tail[-10:-7] == b"3DI" and max(tail[-4:]) < 0x80:
        return 20 + _synchsafe(tail[-4:])
    return _lyrics3(recording, end, tail)


def _lyrics3(recording: Recording, end: int, tail: bytes) -> int:
    if tail.endswith(b"LYRICS200") and tail[-LYRICS3_END:-9].isdigit():
        return LYRICS3_END + int(tail[-LYRICS3_END:-9])
    if tail.endswith(b"LYRICSEND"):
        text = recording.read(max(0, end - LYRICS3_V1), min(end, LYRICS3_V1))
        found = text.find(b"LYRICSBEGIN")
        return len(text) - found if found >= 0 else 0
    return 0


def _synchsafe(four: bytes) -> int:
    """28 bits in four bytes whose top bits are 0."""
    return four[0] << 21 | four[1] << 14 | four[2] << 7 | four[3]
