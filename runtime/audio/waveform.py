"""From decoded blocks to one mono waveform at the rate of the model, each block checked as it comes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ...profiles.errors import AudioError
from .containers.decode import Block
from .recording import CheckLength

Array = npt.NDArray[np.float32]

MAX_LEVEL = 16.0  # 24 dB over full scale: beyond all mixing, and below unscaled integers
MOST_SECONDS = 10  # that are resampled at once
# The share of energy that the mean of n channels keeps, times n, is 1 for channels that have nothing in
# common, and 1 + their correlation for two of one level. Below this they are a signal and its opposite, and
# what is left of them in the mean is noise.
CANCELLED = 0.1
MAX_CANCELLED = 0.05  # share of the energy that may be in seconds that cancel; less is breath and room


def mono_at(
    blocks: Iterable[Block], sample_rate: int, place: str, check_length: CheckLength | None = None
) -> Array:
    """All of `mono_blocks` at once: (n,) float32, full scale 1.0, at `sample_rate` Hz.

    Only the result is kept whole in memory.

    Raises `AudioError` as `mono_blocks` does.
    """
    return np.concatenate(list(mono_blocks(blocks, sample_rate, place, check_length)))


def mono_blocks(
    blocks: Iterable[Block], sample_rate: int, place: str, check_length: CheckLength | None = None
) -> Iterator[Array]:
    """The mean of the channels, resampled by soxr (HQ), a little at a time: float32 at `sample_rate` Hz.

    Rates may change between blocks.

    Raises `AudioError` for no samples, samples that are no level, channels that cancel, and too long audio.
    What only the end can tell is raised there, behind all blocks.
    """
    checked, made = _Checks(place, check_length), 0
    for part in _resampled(checked, blocks, sample_rate):
        made += len(part)
        yield part
    checked.finish()
    if not made:
        raise AudioError(
            f"{place}: {checked.length} make none at {sample_rate} Hz; give audio that is longer"
        )


def _resampled(checked: _Checks, blocks: Iterable[Block], sample_rate: int) -> Iterator[Array]:
    """What each block adds at the other rate, and the rest where a rate ends."""
    resampler: Resampler | None = None
    for block in _short(blocks):
        mono = checked.mono(block)
        if resampler and resampler.rate != block.rate:
            yield resampler.finish()
            resampler = None
        resampler = resampler or Resampler(block.rate, sample_rate)
        yield resampler.take(mono)
    if resampler:
        yield resampler.finish()


def _short(blocks: Iterable[Block]) -> Iterator[Block]:
    """The same in blocks of some seconds, since few samples of a low rate make very many of another."""
    for frames, rate in blocks:
        for at in range(0, len(frames), MOST_SECONDS * rate):
            yield Block(frames[at : at + MOST_SECONDS * rate], rate)


class Resampler:
    """Blocks of one rate at another, as if they were one."""

    def __init__(self, rate: int, wanted: int) -> None:
        self.rate = rate
        self._stream: Any = None
        if rate != wanted:
            import soxr

            self._stream = soxr.ResampleStream(rate, wanted, 1, dtype="float32", quality="HQ")

    def take(self, samples: Array) -> Array:
        """What can be said so far."""
        return self._stream.resample_chunk(samples) if self._stream else samples

    def finish(self) -> Array:
        """The rest."""
        rest = np.empty(0, np.float32)
        return self._stream.resample_chunk(rest, last=True) if self._stream else rest


class _Checks:
    """Faults of the samples, and what must be known of all of them to find one."""

    def __init__(self, place: str, check_length: CheckLength | None) -> None:
        self._place, self._check_length = place, check_length
        self._frames, self._seconds, self._rate = 0, 0.0, 0
        # Of the last second: frames, energy of a channel, energy of the mean times the number of channels.
        self._window = np.zeros(3)
        self._energy, self._cancelled = 0.0, 0.0

    @property
    def length(self) -> str:
        """For messages."""
        return f"{self._frames} sample(s) at {self._rate} Hz"

    def mono(self, block: Block) -> Array:
        """(n, channels) -> (n,): the mean of the channels, if it is audio."""
        frames, self._rate = block
        with np.errstate(invalid="ignore", over="ignore"):  # the level is checked next
            mono = frames[:, 0] if frames.shape[1] == 1 else frames.mean(axis=1, dtype=np.float32)
        self._check_level(frames)
        self._frames, self._seconds = self._frames + len(mono), self._seconds + len(mono) / self._rate
        if self._check_length:
            self._check_length(self._place, self._seconds)
        if frames.shape[1] > 1:
            self._weigh(frames, mono)
        return np.ascontiguousarray(mono)

    def finish(self) -> None:
        """Check what only the end can tell."""
        if not self._frames:
            raise AudioError(f"{self._place} holds no samples; give audio that is longer")
        self._close_window()
        if self._cancelled > MAX_CANCELLED * self._energy:
            raise AudioError(
                f"{self._place}: its channels cancel in their mean, since one is the opposite of another; "
                "give one channel alone"
            )

    def _check_level(self, frames: Array) -> None:
        if not frames.size or (frames.min() >= -MAX_LEVEL and frames.max() <= MAX_LEVEL):
            return
        row, column = np.argwhere(~(np.abs(frames) <= MAX_LEVEL))[0]
        raise AudioError(self._level_fault(float(frames[row, column]), int(row)))

    def _level_fault(self, value: float, row: int) -> str:
        where = f"sample {self._frames + row} at {self._seconds + row / self._rate:.3f} s"
        if not np.isfinite(value):
            return (
                f"{self._place}: {where}: {value:g} is not finite; repair the recording (full scale is 1.0)"
            )
        return (
            f"{self._place}: {where}: {value:g} exceeds {MAX_LEVEL:g}, and full scale is 1.0; "
            "divide what was int16 by 32768, what was int32 by 2147483648"
        )

    def _weigh(self, frames: Array, mono: Array) -> None:
        """Add up energies, about a second at a time."""
        channels = frames.shape[1]
        for at in range(0, len(mono), self._rate):
            all_, mean = frames[at : at + self._rate], mono[at : at + self._rate]
            self._window += (len(mean), np.vdot(all_, all_) / channels, np.vdot(mean, mean) * channels)
            if self._window[0] >= self._rate / 2:
                self._close_window()

    def _close_window(self) -> None:
        _, energy, kept = self._window
        self._energy += energy
        self._cancelled += energy if kept < CANCELLED * energy else 0.0
        self._window[:] = 0.0
