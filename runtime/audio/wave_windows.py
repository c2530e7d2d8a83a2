"""Samples in windows, for an encoder of causal convolutions: each window with what its rows hear before it.

A window is computed as if nothing came before it, and the rows of what was put before it are dropped: those
that are left depend on samples of the window alone, so they are the rows of the whole clip.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...profiles.errors import ArtifactError
from ...profiles.faults import count_faults, shown
from .log_mel import LONGEST_WINDOW, MelWindow

Array = npt.NDArray[np.float32]
LARGEST = {
    "sample_rate": 2**20,
    "samples_per_row": 2**20,
    "window_rows": 2**20,
    "context_rows": 2**16,
}
"""Field -> the largest number that any such windows could mean."""

LEVELS = -200.0, 200.0  # dB: what any level could mean
LEAST_RMS = 1e-6  # added to what a clip is divided by


@dataclass(frozen=True)
class WaveWindows:
    """Windows of a clip; a frame of the encoder's input are the samples of one row, the last one filled up.

    The names of properties are those of `LogMelConfig`.

    Raises `ArtifactError` when a field is out of range.
    """

    samples_per_row: int
    window_rows: int
    context_rows: int  # before a window, of what its rows depend on
    sample_rate: int  # Hz
    level: float | None  # dB of full scale, the level that clips are brought to; None: they stay as they are
    least_rms: float = LEAST_RMS

    def __post_init__(self) -> None:
        least = {name: int(name != "context_rows") for name in LARGEST}
        faults = list(count_faults(self, least, LARGEST))
        if not faults and self.window_seconds > LONGEST_WINDOW:
            faults.append(f"a window of {self.window_seconds:g} s: at most {LONGEST_WINDOW} s are possible")
        if self.level is not None and not LEVELS[0] <= self.level <= LEVELS[1]:
            faults.append(f"level {shown(self.level)} is out of range: {LEVELS[0]:g} to {LEVELS[1]:g} dB")
        if not 0 <= self.least_rms <= 1:
            faults.append(f"least_rms {shown(self.least_rms)} is out of range: 0 to 1")
        if faults:
            raise ArtifactError(f"windows of samples: {'; '.join(faults)}; build the artifact again")

    full_windows = has_audio_alone = False
    cuts = "never"
    filled_samples = None
    frames_per_row = 1

    @property
    def in_words(self) -> str:
        """As tables say it."""
        return (
            f"{self.sample_rate} Hz, samples in windows of {self.window_seconds:g} s, each with "
            f"{self.context_rows * self.hop_length / self.sample_rate:.1f} s before it"
        )

    @property
    def hop_length(self) -> int:
        """Samples of a frame."""
        return self.samples_per_row

    @property
    def num_mel_bins(self) -> int:
        """Numbers of a frame."""
        return self.samples_per_row

    @property
    def window_samples(self) -> int:
        """Samples of one full window."""
        return self.window_rows * self.samples_per_row

    @property
    def window_seconds(self) -> float:
        """The same in seconds."""
        return self.window_samples / self.sample_rate

    @property
    def max_rows(self) -> int:
        """Rows of one full window."""
        return self.window_rows

    @property
    def max_frames(self) -> int:
        """Frames of one full window and of what comes before it."""
        return self.window_rows + self.context_rows

    def heard_samples(self, num_samples: int) -> int:
        """Samples of a clip that the encoder hears."""
        return num_samples

    def rows_of_samples(self, num_samples: int) -> int:
        """Rows of so many samples, a begun one included."""
        return -(-num_samples // self.samples_per_row)

    def rows_of(self, frames: int) -> int:
        """Rows of so many frames of a first window."""
        return frames

    def least_frames_of(self, rows: int) -> int:
        """The fewest frames that give so many rows: those of the first window."""
        return rows

    def frames_of(self, rows: int) -> int:
        """The most frames that the encoder reads for so many rows: others may stand before a full window."""
        return rows + (self.context_rows if rows == self.window_rows else 0)


def wave_windows(samples: Array, windows: WaveWindows) -> Iterator[MelWindow]:
    """Cut samples (n,) into windows; the frames of each are columns: (samples_per_row, frames)."""
    rows = windows.rows_of_samples(len(samples))
    wave = np.zeros(rows * windows.samples_per_row, np.float32)
    wave[: len(samples)] = samples if windows.level is None else _levelled(samples, windows)
    frames = wave.reshape(rows, windows.samples_per_row)
    for start in range(0, rows, windows.window_rows):
        end = min(rows, start + windows.window_rows)
        heard = frames[max(0, start - windows.context_rows) : end]
        yield MelWindow(np.ascontiguousarray(heard.T), end - start)


def _levelled(samples: Array, windows: WaveWindows) -> Array:
    """The clip at `level`, or quieter where it would exceed full scale."""
    assert windows.level is not None, "there is a level"
    rms = float(np.sqrt(np.mean(np.square(samples), dtype=np.float64)))
    levelled = samples * np.float32(10.0 ** (windows.level / 20) / (rms + windows.least_rms))
    peak = float(np.max(np.abs(levelled)))
    return levelled / np.float32(peak + windows.least_rms) if peak > 1 else levelled
