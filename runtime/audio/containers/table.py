"""All containers as data: how each is known, what tells that a file is whole, who decodes it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..recording import Recording
from . import flac, media, media_ends, mp3, ogg, riff, sized
from .decode import Block, Stretch, stream_of
from .tags import after_leading_tags

Reader = Callable[[Recording, int], Iterator[Block]]  # of a recording, from where its container begins
Check = Callable[[Recording, int], None]  # raises AudioError for a file that is cut

HEAD = 512  # bytes by which a container is known


@dataclass(frozen=True)
class Container:
    """A kind of file that is read."""

    name: str
    start: bytes  # regular expression
    whole_by: str  # what tells that a file is all there
    blocks: Reader


def _by_pyav(name: str, start: bytes, whole_by: str, demuxer: str, check: Check) -> Container:
    """A container whose end is checked here, and which FFmpeg decodes."""

    def blocks(recording: Recording, at: int) -> Iterator[Block]:
        check(recording, at)
        stream = stream_of(recording, [Stretch(at, recording.size)])
        return media.blocks(recording, name, demuxer, stream)

    return Container(name, start, whole_by, blocks)


WAV = rb"(RIFF|RIFX|RF64|BW64)....WAVE|riff\x2e\x91\xcf\x11"
MP4 = rb"....(ftyp|moov|mdat|wide|skip)"
MADE_OF_SOUND = (
    Container("WAV, RF64, BW64, Wave64", WAV, "the size of the samples", riff.blocks),
    Container("AIFF, AIFC", rb"FORM....AIF[FC]", "the size of the samples", sized.aiff),
    Container("CAF", rb"caff", "the size of the samples", sized.caf),
    Container("AU", rb"\.snd|dns\.", "the size of the samples", sized.au),
    Container("NIST Sphere", rb"NIST_1A", "the number of samples", sized.nist),
    Container("FLAC", rb"fLaC", "the number of samples; without it, the last frame", flac.blocks),
    Container("Ogg", rb"OggS", "the last page, and numbers and check sums of all", ogg.blocks),
)
BY_PYAV = (
    _by_pyav(
        "WebM or Matroska",
        rb"\x1aE\xdf\xa3",
        "the size; without it, the last element",
        "matroska",
        media_ends.matroska,
    ),
    _by_pyav("MP4, M4A, MOV or 3GP", MP4, "the boxes", "mov", media_ends.mp4),
    _by_pyav("WMA", rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "the size of the data", "asf", media_ends.asf),
    _by_pyav("AMR", rb"#!AMR(-WB)?\n", "the last frame", "amr", media_ends.amr),
    _by_pyav("AAC", rb"\xff[\xf0\xf1\xf8\xf9]", "the last frame", "aac", media_ends.adts),
)
MPEG = Container("MP3, MP2", rb"", "the tag of the encoder; without it, the last frame", mp3.blocks)

# Known by their first bytes and not read: nothing in them, or nobody here, tells whether they are whole.
REFUSED = {
    "Amiga SVX": rb"FORM....(8SVX|16SV)",
    "Creative VOC": rb"Creative Voice File",
    "Ensoniq PARIS (PAF)": rb" paf|fap ",
    "IRCAM (SF)": rb"\x64\xa3[\0-\4]\0|\0[\0-\4]\xa3\x64",
    "AVR": rb"2BIT",
    "Psion WVE": rb"ALawSoundFile",
    "FastTracker XI": rb"Extended Instrument",
    "PVF": rb"PVF1",
    "MIDI sample dump (SDS)": rb"\xf0\x7e",
    "MATLAB (MAT)": rb"MATLAB 5\.0",
    "WavPack": rb"wvpk",
    "Monkey's Audio (APE)": rb"MAC ",
    "True Audio (TTA)": rb"TTA[12]",
    "Musepack": rb"MPCK|MP\+",
    "DSD": rb"DSD |FRM8",
    "AC-3": rb"\x0b\x77",
    "RealAudio": rb"\.RMF|\.ra\xfd",
    "AVI": rb"RIFF....AVI ",
    "Flash video (FLV)": rb"FLV\x01",
    "MPEG transport stream": rb"G.{187}G",
    "MPEG program stream": rb"\0\0\x01\xba",
    "MIDI": rb"MThd|RIFF....RMID",
}


def blocks(recording: Recording) -> Iterator[Block]:
    """The decoded audio of a recording in any container.

    Raises `AudioError` for one that is unknown or not read, and for a file that is not whole.
    """
    start = after_leading_tags(recording, 0)
    return container_of(recording, start).blocks(recording, start)


def container_of(recording: Recording, start: int) -> Container:
    """The container whose first bytes stand at `start`, behind tags.

    Raises `AudioError` where it is none that is read.
    """
    head = recording.peek(start, HEAD)
    for container in (*MADE_OF_SOUND, *BY_PYAV):
        if re.match(container.start, head, re.DOTALL):
            return container
    for name, pattern in REFUSED.items():
        if re.match(pattern, head, re.DOTALL):
            raise recording.error(f"is {name}, which is not read; convert it to wav or flac")
    if not mp3.is_mpeg(recording, start):
        raise recording.unknown()
    return MPEG
