"""Ogg: every page is looked at, and a chain taken apart into links, each of which must be whole."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..recording import Recording
from . import flac, media
from .decode import Block, Link, Piece, Stretch, decode, stream_of
from .extent import STRAY, is_filling

CAPTURE = b"OggS"
HEADER = 27  # bytes in front of the table of segments
CONTINUED, FIRST, LAST = 1, 2, 4  # flags of a page
LATE = 31  # seconds; a first page of 255 packets of 120 ms ends at 30.6
PAGES_AT_ONCE = 256  # that are looked at before the request is asked whether it goes on
OPUS_RATE = 48000  # Hz, in which granules of Opus are counted
FLAC_PACKET_HEADER = 9  # bytes before "fLaC" in the first packet
# How the first packet of a stream begins -> the codec.
CODECS = {
    b"\x01vorbis": "Vorbis",
    b"OpusHead": "Opus",
    b"\x7fFLAC": "FLAC",
    b"Speex   ": "Speex",
}
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class Page(NamedTuple):
    """A page as its header describes it."""

    start: int
    end: int
    flags: int
    granule: int  # position of the last sample that ends in it
    serial: int  # number of its stream
    sequence: int  # number in its stream
    segments: bytes  # sizes

    @property
    def body(self) -> int:
        """Where the segments begin."""
        return self.start + HEADER + len(self.segments)


@dataclass
class Stream:
    """The pages of one logical stream."""

    codec: str  # empty when it is no audio, as far as is known
    rate: int  # Hz of its granules; 0 when it is no audio
    pages: list[Page] = field(default_factory=list)


Chained = dict[int, Stream]  # the streams of one link of the chain, by serial number


def blocks(recording: Recording, start: int) -> Iterator[Block]:
    """The audio of all links of the chain."""
    streams = [_audio_of(recording, link) for link in links(recording, start)]
    for stream in streams:
        yield from _decoded(recording, stream)


def links(recording: Recording, start: int) -> list[Chained]:
    """The links of the chain.

    Raises `AudioError` where pages are missing or damaged.
    """
    chain: list[Chained] = []
    was_first = False  # the first pages of the streams of a link all stand before its other ones
    for number, page in enumerate(pages(recording, start), 1):
        if page.flags & FIRST:
            if not was_first:
                chain.append({})
            if page.serial in chain[-1]:
                raise recording.damaged(f"the stream at byte {page.start} begins twice")
            chain[-1][page.serial] = _stream(recording.read(page.body, 32))
        _append(recording, chain, page)
        was_first = bool(page.flags & FIRST)
        if not number % PAGES_AT_ONCE:
            recording.check_wanted()
    for link in chain:
        _check_ends(recording, link)
    return chain


def _append(recording: Recording, chain: Sequence[Chained], page: Page) -> None:
    stream = chain[-1].get(page.serial) if chain else None
    if stream is None:
        raise recording.damaged(f"the page at byte {page.start} belongs to no stream")
    if stream.pages and page.sequence != (stream.pages[-1].sequence + 1) & 0xFFFFFFFF:
        raise recording.damaged(f"pages are missing before byte {page.start}")
    stream.pages.append(page)
    if page.granule > 0 and len(stream.pages) > 2:  # the first pages may be those of a broadcast, and late
        recording.check_length(page.granule - max(0, stream.pages[2].granule), stream.rate)


def _check_ends(recording: Recording, link: Chained) -> None:
    for stream in link.values():
        if stream.codec and not stream.pages[-1].flags & LAST:
            raise recording.cut_short(f"its last page is missing, behind page {len(stream.pages)}")


def pages(recording: Recording, start: int) -> Iterator[Page]:
    """All pages from `start` to the end.

    Raises `AudioError` for bytes between them, a check sum that does not fit, and a page that does not end.
    """
    at = start
    while at < recording.size:
        page = _page(recording, at)
        if page is None:
            rest = recording.read(at, STRAY + 1)
            if not is_filling(rest) or CAPTURE in rest or CAPTURE.startswith(rest):
                raise recording.damaged(f"no page of Ogg at byte {at}")
            return
        yield page
        at = page.end


def _page(recording: Recording, at: int) -> Page | None:
    head = recording.peek(at, HEADER)
    if head[:5] != CAPTURE + b"\0":
        return None
    segments = recording.peek(at + HEADER, head[-1]) if len(head) == HEADER else b""
    end = at + HEADER + len(segments) + sum(segments)
    if len(head) < HEADER or len(segments) < head[-1] or end > recording.size:
        raise recording.cut_short(f"the page at byte {at} does not end")
    content = recording.peek(at, end - at)
    if check_sum(content[:22] + bytes(4) + content[26:]) != int.from_bytes(head[22:26], "little"):
        raise recording.damaged(f"the check sum of the page at byte {at} does not fit")
    granule, serial, sequence = struct.unpack("<qII", head[6:22])
    return Page(at, end, head[5], granule, serial, sequence, segments)


def check_sum(data: bytes) -> int:
    """The CRC of a page, whose own field is 0: polynomial 0x04c11db7, most significant bit first.

    zlib's is the same with the bits of each byte, and of the result, the other way round.
    """
    number = zlib.crc32(data.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(number.to_bytes(4, "little").translate(REVERSED), "big")


def _stream(packet: bytes) -> Stream:
    """The stream that begins with this packet."""
    codec = next((name for start, name in CODECS.items() if packet.startswith(start)), "")
    rate = {
        "Vorbis": int.from_bytes(packet[12:16], "little"),
        "Opus": OPUS_RATE,
        "FLAC": int.from_bytes(packet[27:30], "big") >> 4,
        "Speex": 0,
    }
    return Stream(codec, rate.get(codec, 0))


def _audio_of(recording: Recording, link: Chained) -> Stream:
    audio = [stream for stream in link.values() if stream.codec]
    if not audio:
        raise recording.error("is an Ogg file without Vorbis, Opus or FLAC; convert its audio to wav")
    if len(audio) > 1:
        codecs = ", ".join(stream.codec for stream in audio)
        raise recording.error(f"holds {len(audio)} streams of audio ({codecs}); give one of them as a file")
    return audio[0]


def _decoded(recording: Recording, stream: Stream) -> Iterator[Block]:
    """The audio of one stream, whose pages may lie between those of others."""
    if stream.codec == "FLAC":
        return flac.blocks(recording.over(stream_of(recording, _native_flac(recording, stream))), 0)
    if stream.codec == "Speex" or _is_late_opus(stream):
        name = "Opus that begins in the middle of a broadcast" if stream.codec == "Opus" else "Speex in Ogg"
        return media.blocks(recording, name, "ogg", stream_of(recording, _joined(stream.pages)))
    return decode(recording, [Link(_joined(stream.pages))])


def _is_late_opus(stream: Stream) -> bool:
    """Whether positions begin so late that libsndfile takes the stream for malformed."""
    return stream.codec == "Opus" and len(stream.pages) > 2 and stream.pages[2].granule > LATE * OPUS_RATE


def _joined(parts: Iterable[Page | Stretch]) -> list[Piece]:
    """Their bytes, in as few pieces as may be."""
    stretches: list[Stretch] = []
    for part in parts:
        if stretches and stretches[-1].end == part.start:
            stretches[-1] = Stretch(stretches[-1].start, part.end)
        else:
            stretches.append(Stretch(part.start, part.end))
    return list(stretches)


def _native_flac(recording: Recording, stream: Stream) -> list[Piece]:
    """FLAC without Ogg around it: the header out of the first packet, then all packets that are frames."""
    first = stream.pages[0]
    header = recording.read(first.body + FLAC_PACKET_HEADER, first.end - first.body - FLAC_PACKET_HEADER)
    return [header[:4] + b"\x80" + header[5:], *_joined(_frames(recording, stream.pages[1:]))]


def _frames(recording: Recording, pages: Sequence[Page]) -> Iterator[Stretch]:
    """What each page has of packets that are frames of FLAC."""
    is_frame = False
    for number, page in enumerate(pages):
        for segment, begins in _segments(page):
            is_frame = recording.peek(segment.start, 1) == b"\xff" if begins else is_frame
            if is_frame:
                yield segment
        if not number % PAGES_AT_ONCE:
            recording.check_wanted()


def _segments(page: Page) -> Iterator[tuple[Stretch, bool]]:
    """What each packet has in this page, and whether it begins here."""
    at, begins = page.body, not page.flags & CONTINUED
    start = at
    for index, size in enumerate(page.segments):
        at += size
        if size < 255 or index == len(page.segments) - 1:
            if at > start:
                yield Stretch(start, at), begins
            start, begins = at, size < 255
