"""Read audio of any format, rate and channel count as mono float32 at the rate of the model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ...profiles.errors import AudioError
from .arrays import checked_rate, samples_of
from .containers import table
from .containers.decode import Block
from .recording import CheckLength, Files, open_recording
from .waveform import mono_at, mono_blocks

Array = npt.NDArray[np.float32]
Numbers: TypeAlias = npt.NDArray[Any] | list[Any] | tuple[Any, ...]  # or a tensor, or a buffer of numbers
Source: TypeAlias = Files | Numbers


@dataclass(frozen=True)
class Audio:
    """A mono waveform: `samples` (n,) float32, full scale 1.0, at `sample_rate` Hz."""

    samples: Array
    sample_rate: int

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / self.sample_rate


def load_audio(
    source: Source,
    sample_rate: int,
    *,
    source_rate: int | None = None,
    check_length: CheckLength | None = None,
) -> Audio:
    """Load `source` as mono float32 at `sample_rate` Hz: the mean of its channels, resampled by soxr (HQ).

    Args:
        source: a path, the bytes of an audio file (bytes, bytearray, memoryview), a binary stream, which is
            read to its end, but for an open file at its beginning, which stays there; or samples: an array,
            list, torch tensor or buffer (n,) or (n, channels) of floats with full scale 1.0, or of int16 or
            int32, which are divided by 2**15 or 2**31; or (samples, rate).
        sample_rate: Hz of the result.
        source_rate: Hz of samples that come without a rate; if None, they are taken to be at `sample_rate`.
            Files and streams carry their own.
        check_length: called with the name and the length in seconds of the source, before it is decoded if
            that is known, and while it is; it raises for what is too long.

    Raises:
        AudioError: a source that is missing, empty, damaged, cut short or of a format that is not read;
            samples that are not finite or far beyond full scale; channels that cancel each other.
    """
    checked_rate("sample_rate", sample_rate)
    place = place_of(source)
    with _blocks(source, place, sample_rate, source_rate, check_length) as blocks:
        return Audio(mono_at(blocks, sample_rate, place, check_length), sample_rate)


def is_longer(source: Source, sample_rate: int, seconds: float) -> bool:
    """Whether audio is longer than so many seconds; no more of it is decoded. Errors as in `load_audio`."""

    def check(place: str, found: float) -> None:
        if found > seconds:
            raise _LongerError(place)

    try:
        load_audio(source, sample_rate, check_length=check)
    except _LongerError:
        return True
    return False


class _LongerError(AudioError):
    """What is heard so far."""


def read_blocks(
    source: Source,
    sample_rate: int,
    *,
    source_rate: int | None = None,
    check_length: CheckLength | None = None,
) -> Iterator[Array]:
    """As `load_audio`, a little at a time: joined, the blocks (n,) are its samples. Only one is in memory.

    The source is opened when the first block is asked for, and closed behind the last one.

    Raises:
        AudioError: as `load_audio`; what only the end can tell, behind the last block.
    """
    checked_rate("sample_rate", sample_rate)
    place = place_of(source)
    with _blocks(source, place, sample_rate, source_rate, check_length) as blocks:
        yield from mono_blocks(blocks, sample_rate, place, check_length)


@contextmanager
def _blocks(
    source: Source, place: str, sample_rate: int, source_rate: int | None, check_length: CheckLength | None
) -> Iterator[Iterator[Block]]:
    """The decoded blocks of a source, while it is open."""
    samples = samples_of(source, place)
    rate = None if source_rate is None else checked_rate("source_rate", source_rate)
    if samples:
        if rate and samples.rate and rate != samples.rate:
            raise AudioError(f"source_rate {rate} contradicts the rate {samples.rate} beside the samples")
        rate = samples.rate or rate or sample_rate
        if check_length:
            check_length(place, len(samples.array) / rate)
        yield samples.blocks(rate)
        return
    if rate:
        raise AudioError(f"source_rate {rate} is for arrays; a file or stream carries its own rate")
    with open_recording(_file(source, place), place, check_length) as recording:
        yield table.blocks(recording)


def place_of(source: Source) -> str:
    """How messages call the source."""
    if isinstance(source, bytes | bytearray | memoryview):
        return "audio bytes"
    if isinstance(source, str | os.PathLike):
        return f"audio {os.fspath(source)}"
    if hasattr(source, "read"):
        name = None
        with suppress(ValueError):  # a stream that was detached
            name = getattr(source, "name", None)
        # That of a descriptor is its number, which says nothing.
        return f"audio stream {name}" if name and isinstance(name, str) else "audio stream"
    return "audio array"


def _file(source: Any, place: str) -> Files:
    """The source, which is no samples, if it is a file."""
    if isinstance(source, str | os.PathLike):
        if Path(source).suffix.lower() == ".raw":
            raise AudioError(
                f"{place}: raw samples carry no rate; convert to wav, or pass an array with source_rate"
            )
        return source
    if isinstance(source, bytes | bytearray | memoryview) or hasattr(source, "read"):
        return source  # type: ignore[no-any-return]
    kind = type(source).__name__
    raise AudioError(f"audio of type {kind}: give a path, bytes, a binary stream, samples or (samples, rate)")
