"""Where samples end, whose size its writer may have known, not known, or never come back to correct."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..recording import Recording
from .decode import Stretch
from .tags import leading_tag

STRAY = 1 << 12  # bytes behind the audio that may be filling
STRAY_SECONDS = 0.01  # bytes behind the samples that would last less than this are no speech


@dataclass(frozen=True)
class Claim:
    """What a header says of its samples."""

    start: int
    size: int  # bytes
    is_known: bool  # False where the number stands for an unknown length
    bytes_a_second: float

    @property
    def end(self) -> int:
        """Where the samples end, if the header is right."""
        return self.start + self.size


def resolve(recording: Recording, claim: Claim, is_next: Callable[[int], bool], behind: int) -> Stretch:
    """The bytes that are samples: all that there are or, where no more can follow, those of the header.

    More cannot follow where `is_next(behind)`, which stands for the next part of the file, nor where a tag
    is, nothing but zeros, or too little to be heard.

    Raises `AudioError` for samples that are cut short.
    """
    if claim.is_known and claim.size < 0:
        raise recording.damaged(f"{claim.size} bytes of samples")
    if claim.is_known and claim.end > recording.size:
        raise recording.cut_short(f"{max(0, recording.size - claim.start)} of {claim.size} bytes of samples")
    if claim.is_known and (
        recording.size - behind <= STRAY_SECONDS * claim.bytes_a_second
        or is_next(behind)
        or leading_tag(recording, behind)
        or is_padding(recording, behind)
    ):
        return Stretch(claim.start, claim.end)
    return Stretch(claim.start, max(claim.start, recording.size))


def is_filling(rest: bytes) -> bool:
    """Whether the last bytes of a file are text or one byte repeated, and not what is left of audio."""
    return len(rest) <= STRAY and (rest.isascii() or (len(set(rest)) == 1 and len(rest) >= 4))


def is_padding(recording: Recording, start: int) -> bool:
    """Whether nothing but zeros stands from `start` on."""
    step = 1 << 20
    return not any(recording.read(at, step).strip(b"\0") for at in range(start, recording.size, step))
