"""Frames of MPEG audio (ISO 11172-3, 13818-3) as bytes: headers, side information, the tags of encoders."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

HEADER = 4  # bytes
BITRATES = {  # (MPEG 1 or not, layer) -> kbit/s by code; 0 is free format
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # Hz by version code
MAX_BIG_VALUES = 288  # pairs of a granule


class Kind(NamedTuple):
    """What the frames that a decoder takes in one go have in common."""

    is_mpeg1: bool
    layer: int
    rate: int  # Hz
    channels: int


class Frame(NamedTuple):
    """What the header of a frame says."""

    kind: Kind
    size: int  # bytes, with the header
    samples: int  # a channel
    side: slice  # bytes of the side information (layer III)


class Side(NamedTuple):
    """Of the side information, what says where the bits of a frame are."""

    bytes_before: int  # at which they begin, in the frames before
    bits: int


class Tag(NamedTuple):
    """What an encoder has written into the first frame when it had come to the end: Xing, Info or VBRI."""

    frames: int  # behind this one; 0 where it does not say
    total_bytes: int  # of all frames with this one; 0 where it does not say
    exact: bool  # False when `frames` may count this one too
    delay: int | None  # samples that the encoder has put before the audio, if it says so
    padding: int  # and behind it


@lru_cache(maxsize=1 << 12)
def parse_header(head: bytes) -> Frame | None:
    """The frame that begins with these 4 bytes, or None when no frame does."""
    if len(head) < HEADER or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer, protected = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3), not head[1] & 1
    bitrate_code, rate_code = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or bitrate_code in (0, 15) or rate_code == 3:
        return None
    kind = Kind(version == 3, layer, RATES[version][rate_code], 1 if head[3] >> 6 == 3 else 2)
    samples = 384 if layer == 1 else 576 if layer == 3 and not kind.is_mpeg1 else 1152
    slot = 4 if layer == 1 else 1  # bytes
    slots = samples * BITRATES[kind.is_mpeg1, layer][bitrate_code] * 1000 // (8 * slot * kind.rate)
    side_at = HEADER + (2 if protected else 0)
    side_bytes = (
        0 if layer != 3 else (17, 32)[kind.channels - 1] if kind.is_mpeg1 else (9, 17)[kind.channels - 1]
    )
    side = slice(side_at, side_at + side_bytes)
    return Frame(kind, (slots + (head[2] >> 1 & 1)) * slot, samples, side)


def is_free_format(head: bytes) -> bool:
    """Whether these 4 bytes would be a header, but for a bit rate that only its decoder could find out."""
    return (
        len(head) == HEADER
        and not head[2] >> 4
        and parse_header(bytes((*head[:2], head[2] | 0x10, head[3]))) is not None
    )


def parse_side(content: bytes, frame: Frame) -> Side | None:
    """The side information in a frame of layer III, or None when no encoder can have written it.

    It is a number of bytes to go back; then, for each granule and channel, 12 bits for its length, 9 for its
    pairs of large values, 8 for its gain, 4 or 9 for its scale factors, 1 for a switch of windows, 2 for the
    type of the switch.
    """
    is_mpeg1, _, _, channels = frame.kind
    bits = int.from_bytes(content[frame.side], "big")
    width, scale_bits, granules = (59, 4, 2 * channels) if is_mpeg1 else (63, 9, channels)
    needed = 0
    for index in range(granules):
        granule = bits >> width * index
        needed += granule >> width - 12 & 0xFFF
        window = granule >> width - 32 - scale_bits & 7
        if granule >> width - 21 & 0x1FF > MAX_BIG_VALUES or window == 4:
            return None
    return Side(bits >> 8 * (frame.side.stop - frame.side.start) - (9 if is_mpeg1 else 8), needed)


def silenced(content: bytes, frame: Frame) -> bytes:
    """The same frame with side information that asks for no bits, so that it decodes to silence."""
    return (
        content[: frame.side.start] + bytes(frame.side.stop - frame.side.start) + content[frame.side.stop :]
    )


def parse_tag(content: bytes, frame: Frame) -> Tag | None:
    """The tag in a frame of layer III, if it holds one instead of audio."""
    if frame.kind.layer != 3:
        return None
    if content[36:40] == b"VBRI":
        number = [int.from_bytes(content[at : at + 4], "big") for at in (46, 50)]
        return Tag(number[1], number[0], False, None, 0)
    for at in {frame.side.stop, HEADER + frame.side.stop - frame.side.start}:  # some pass over the check sum
        if content[at : at + 4] in (b"Xing", b"Info"):
            return _parse_xing(content[at + 4 :])
    return None


def _parse_xing(fields: bytes) -> Tag:
    flags, at = int.from_bytes(fields[:4], "big"), 4
    if flags > 15:
        return Tag(0, 0, False, None, 0)
    numbers = []
    for flag, size in ((1, 4), (2, 4), (4, 100), (8, 4)):
        numbers.append(int.from_bytes(fields[at : at + size], "big") if flags & flag else 0)
        at += size if flags & flag else 0
    encoder = fields[at : at + 24]  # 9 letters, …, 12 bits of delay and 12 of padding, as LAME began it
    exact = len(encoder) == 24 and 0x20 < encoder[0] < 0x7F
    delay, padding = divmod(int.from_bytes(encoder[21:24], "big"), 1 << 12)
    return Tag(numbers[0], numbers[1], exact, delay if exact else None, padding if exact else 0)
