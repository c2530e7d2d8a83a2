"""Whether a file of a browser or phone is all there, as far as its container tells."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import NamedTuple

from ..recording import Recording
from .extent import STRAY, is_filling, is_padding
from .tags import after_leading_tags, before_trailing_tags

MAX_BOXES = 1_000_000  # of one file; more are an attack on the reader
JOINED = "holds several files, one after the other; give them one by one"

EBML, SEGMENT, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
BESIDE_CLUSTERS = {0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367}

ASF_HEADER = uuid.UUID("75b22630-668e-11cf-a6d9-00aa0062ce6c").bytes_le
ASF_PROPERTIES = uuid.UUID("8cabdca1-a947-11cf-8ee4-00c00c205365").bytes_le

ASF_DATA_HEADER = 50  # bytes
MAX_ASF_HEADER = 1 << 20  # bytes of it that are read
ASF_END_MARK = 12  # bytes by which a broadcast may say that it ends

ADTS_HEADER, ADTS_SAMPLES, ADTS_MAX_RATE = 7, 1024, 96000  # bytes; samples of a frame; Hz
AMR_FRAMES_A_SECOND = 50

# Bytes of a frame, with its first one, by its type.
AMR = {
    b"#!AMR\n": (13, 14, 16, 18, 20, 21, 27, 32, 6, 0, 0, 0, 0, 0, 0, 1),
    b"#!AMR-WB\n": (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 0, 0, 0, 0, 1, 1),
}


def mp4(recording: Recording, start: int) -> None:
    """MP4, M4A, MOV, 3GP: boxes, of which `moov` and `mdat` must be there, and the last one whole.

    A file in fragments may have been cut between two of them; nothing in it tells.
    """
    seen: set[bytes] = set()
    for kind in _boxes(recording, start):
        if kind == b"ftyp" and b"moov" in seen:
            raise recording.error(JOINED)
        seen.add(kind)
    if missing := {b"moov", b"mdat"} - seen:
        raise recording.cut_short(f"its box {sorted(missing)[0].decode()} is missing")


def _boxes(recording: Recording, start: int) -> Iterator[bytes]:
    at = start
    for _ in range(MAX_BOXES):
        head = recording.peek(at, 16)
        if not head:
            return
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        size = int.from_bytes(head[8:16], "big") if size == 1 else size or recording.size - at
        if len(head) < 8 or size < 8 or not kind.isascii():
            return _check_stray(recording, at)
        if at + size > recording.size:
            raise recording.cut_short(f"{recording.size - at} of {size} bytes of its box {kind.decode()!r}")
        yield kind
        at += size
    raise recording.damaged(f"more than {MAX_BOXES} boxes")


class Element(NamedTuple):
    """An element of EBML."""

    kind: int
    body: int  # where its content begins
    size: int | None  # bytes; None where its writer did not know


def matroska(recording: Recording, start: int) -> None:
    """WebM and Matroska: a segment as long as it says or, of unknown length, up to a whole element.

    A recording of a browser has no length, and may have been cut between two blocks; nothing in it tells.
    """
    header = _element(recording, start)
    segment = _element(recording, header.body + (header.size or 0)) if header else None
    if header is None or segment is None or segment.kind != SEGMENT:
        raise recording.cut_short("its header has no segment behind it")
    end = recording.size if segment.size is None else segment.body + segment.size
    if end > recording.size:
        raise recording.cut_short(f"{recording.size - segment.body} of {segment.size} bytes of its segment")
    at = segment.body
    while at < end:
        at = _after(recording, at, end)
    behind = _element(recording, end)
    if behind and behind.kind == EBML:
        raise recording.error(JOINED)
    _check_stray(recording, end)


def _after(recording: Recording, at: int, end: int) -> int:
    """Where the element ends that begins at `at`; one of unknown length at its own first child."""
    element = _element(recording, at)
    if element is None:
        _check_stray(recording, at)
        return end
    if element.kind == EBML:
        raise recording.error(JOINED)
    if element.size is None:
        if element.kind not in (CLUSTER, *BESIDE_CLUSTERS):
            raise recording.damaged(f"the element at byte {at} has no length")
        return element.body
    if element.body + element.size > end:
        raise recording.cut_short(f"{end - element.body} of {element.size} bytes of its last element")
    return element.body + element.size


def _element(recording: Recording, at: int) -> Element | None:
    head = recording.peek(at, 12)
    kind_bytes = 9 - head[0].bit_length() if head else 9
    if kind_bytes > 4:
        return None
    size_bytes = 9 - head[kind_bytes].bit_length() if len(head) > kind_bytes else 9
    if len(head) < kind_bytes + size_bytes or size_bytes > 8:
        raise recording.cut_short(f"the element at byte {at} does not begin whole")
    mask = (1 << 7 * size_bytes) - 1
    size = int.from_bytes(head[kind_bytes : kind_bytes + size_bytes], "big") & mask
    kind = int.from_bytes(head[:kind_bytes], "big")
    return Element(kind, at + kind_bytes + size_bytes, None if size == mask else size)


def asf(recording: Recording, start: int) -> None:
    """WMA: an object of data as long as it says; a broadcast, of unknown length, ends with a whole packet."""
    header_size = int.from_bytes(recording.read(start + 16, 8), "little")
    header = recording.read(start, min(header_size, MAX_ASF_HEADER))
    at = start + header_size
    head = recording.read(at, ASF_DATA_HEADER)
    fields = header.find(ASF_PROPERTIES) + 24
    if len(head) < ASF_DATA_HEADER or fields < 24:
        raise recording.cut_short("its header does not end")
    is_broadcast, packet_bytes = (
        int.from_bytes(header[fields + i : fields + i + 4], "little") for i in (64, 68)
    )
    if is_broadcast & 1:
        beyond = (recording.size - at - ASF_DATA_HEADER) % max(1, packet_bytes)
        if beyond > ASF_END_MARK:
            raise recording.cut_short(f"{beyond} of {packet_bytes} bytes of its last packet")
        return
    end = at + int.from_bytes(head[16:24], "little")
    if end > recording.size:
        raise recording.cut_short(f"{recording.size - at} of {end - at} bytes of its data")
    _check_asf_rest(recording, end)


def _check_asf_rest(recording: Recording, at: int) -> None:
    """Behind the data stand indexes."""
    while len(head := recording.peek(at, 24)) == 24:
        size = int.from_bytes(head[16:24], "little")
        if head[:16] == ASF_HEADER:
            raise recording.error(JOINED)
        if size < 24 or at + size > recording.size:
            return
        at += size


def adts(recording: Recording, start: int) -> None:
    """AAC without a container: frames one after the other, the last one whole."""
    at, end, frames = start, before_trailing_tags(recording, start), 0
    while at < end:
        head = recording.peek(at, ADTS_HEADER)
        size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5 if is_adts(head) else 0
        if size < ADTS_HEADER:
            behind = after_leading_tags(recording, at)
            if behind == at:
                return _check_stray(recording, at)
            at = behind
            continue
        if at + size > end:
            raise recording.cut_short("its last frame does not end")
        at, frames = at + size, frames + 1
        recording.check_length(frames * ADTS_SAMPLES, ADTS_MAX_RATE)
    return None


def is_adts(head: bytes) -> bool:
    """Whether these 7 bytes begin a frame of AAC."""
    is_sync = len(head) == ADTS_HEADER and head[0] == 0xFF and head[1] & 0xF6 == 0xF0
    return is_sync and head[2] >> 2 & 15 < 13


def amr(recording: Recording, start: int) -> None:
    """AMR: frames one after the other, the last one whole."""
    magic = next(magic for magic in AMR if recording.peek(start, len(magic)) == magic)
    at, frames = start + len(magic), 0
    while head := recording.peek(at, 1):
        size = AMR[magic][head[0] >> 3 & 15]
        if not size or head[0] & 0x83:  # bits that are always 0
            return _check_stray(recording, at)
        if at + size > recording.size:
            raise recording.cut_short("its last frame does not end")
        at, frames = at + size, frames + 1
        recording.check_length(frames, AMR_FRAMES_A_SECOND)
    return None


def _check_stray(recording: Recording, at: int) -> None:
    """Refuse what stands behind the last part that is known, unless it is text or filling."""
    if is_filling(recording.read(at, STRAY + 1)) or is_padding(recording, at):
        return
    if recording.size - at < ADTS_HEADER:
        raise recording.cut_short(f"what begins at byte {at} does not end")
    raise recording.damaged(f"byte {at} begins nothing that is known")
