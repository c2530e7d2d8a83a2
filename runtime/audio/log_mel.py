"""Turn a waveform into the log-mel windows of a Whisper-style encoder, computing only the frames it reads."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ...profiles.errors import ArtifactError, AudioError
from ...profiles.faults import count_faults, shown

Array = npt.NDArray[np.float32]

LARGEST = {
    "sample_rate": 2**20,
    "n_fft": 2**16,
    "hop_length": 2**16,
    "num_mel_bins": 2**12,
    "frames_per_row": 2**10,
}
"""Field -> the largest number that any front end could mean."""

LONGEST_WINDOW = 3600  # seconds
LARGEST_WINDOW = 2**28  # numbers of its log-mel frames: a gigabyte
EDGES = ("padded", "zero")
MAX_FREQUENCY = 8000.0  # Hz; Whisper's filters end here at every sample rate
SILENCE = -10.0  # log10 of the smallest mel power that is told apart from nothing
DYNAMIC_RANGE = 8.0  # log10 units kept below the loudest value of a window
CHUNK_FRAMES = 512  # frames that are in the Fourier domain at once
EDGE_FRAMES = 2  # that the encoder's convolutions may read beyond those of its last row


@dataclass(frozen=True)
class LogMelConfig:
    """Parameters of the front end, as the manifest keeps them.

    `edge` says what the encoder's convolution meets after the last frame of the audio: "padded", the frames
    of a window filled up with silence, as Whisper does; or "zero", nothing but zeros.

    Raises `ArtifactError` when a parameter is out of range.
    """

    sample_rate: int = 16000  # Hz
    n_fft: int = 400  # samples
    hop_length: int = 160  # samples
    num_mel_bins: int = 128
    window_seconds: float = 30  # a whole number of samples
    edge: str = "padded"
    frames_per_row: int = 2  # of the encoder: the stride of its convolutions
    full_windows: bool = False  # whether the silence that fills up a window is encoded, too
    cut_alone: bool = False  # whether of a full window without others just the rows of its audio are kept
    joined: bool = False  # whether windows, full ones, are cut from the frames of the whole clip

    def __post_init__(self) -> None:
        faults = list(count_faults(self, dict.fromkeys(LARGEST, 1), LARGEST))
        if not 0 < self.window_seconds <= LONGEST_WINDOW:
            faults.append(f"window_seconds is {shown(self.window_seconds)}: give at most {LONGEST_WINDOW}")
            raise _error(faults)
        if self.edge not in EDGES:
            faults.append(f"edge {shown(self.edge)} is unknown (known: {', '.join(EDGES)})")
        if self.n_fft % 2 or self.n_fft < self.hop_length:
            faults.append(f"n_fft {self.n_fft} must be even and at least hop_length {self.hop_length}")
        if self.window_samples <= self.n_fft:
            faults.append(f"a window of {self.window_samples} samples must exceed n_fft {self.n_fft}")
        if self.joined and (self.cut_alone or not self.full_windows):
            faults.append("joined windows are full ones, of which none is cut")
        if not faults and self.num_mel_bins * self.max_frames > LARGEST_WINDOW:
            faults.append(
                f"a window of {self.max_frames} frames of {self.num_mel_bins} mel bins takes more than "
                f"{LARGEST_WINDOW} numbers"
            )
        if faults:
            raise _error(faults)

    @property
    def window_samples(self) -> int:
        """Samples of one full encoder window."""
        return round(self.window_seconds * self.sample_rate)

    @property
    def max_frames(self) -> int:
        """Mel frames of one full encoder window."""
        return self.window_samples // self.hop_length

    @property
    def max_rows(self) -> int:
        """Encoder rows of one full encoder window."""
        return self.rows_of(self.max_frames)

    def rows_of(self, frames: int) -> int:
        """Encoder rows that carry so many mel frames, at least 1."""
        return (frames - 1) // self.frames_per_row + 1

    def least_frames_of(self, rows: int) -> int:
        """The fewest mel frames that give so many encoder rows, at least 1."""
        return (rows - 1) * self.frames_per_row + 1

    def frames_of(self, rows: int) -> int:
        """Mel frames that the encoder reads for its first `rows` rows."""
        beyond = EDGE_FRAMES if self.edge == "padded" else 0
        return min(self.max_frames, self.frames_per_row * rows + beyond)


def _error(faults: list[str]) -> ArtifactError:
    return ArtifactError(f"log-mel front end: {'; '.join(faults)}; build the artifact again")


@dataclass(frozen=True)
class MelWindow:
    """One encoder window: the frames that its audio needs, and the encoder rows that carry the audio."""

    mel: Array  # (num_mel_bins, frames)
    encoder_rows: int  # rows after the convolutions


def encoder_rows(num_samples: int, config: LogMelConfig, alone: bool = True) -> int:
    """Encoder rows of a window with 1 to `window_samples` samples of audio: those that carry it, or all.

    `alone` says whether it is the only window of its clip.
    """
    if config.full_windows and not (config.cut_alone and alone):
        return config.max_rows
    return config.rows_of(min(-(-num_samples // config.hop_length), config.max_frames))


def log_mel_windows(samples: npt.ArrayLike, config: LogMelConfig) -> Iterator[MelWindow]:
    """Cut a waveform into encoder windows and yield the log-mel frames of each.

    `samples` is (n,) at `config.sample_rate`, full scale 1.0. Every window equals what Whisper's feature
    extractor gives for that piece of audio alone, filled up with silence. Of those frames the first
    `config.frames_of(encoder_rows)` are returned, all that the encoder's two convolutions (kernel 3, strides
    1 and `frames_per_row`) read for its first `encoder_rows` rows; or all, where windows are full. Cost and
    memory follow the length of the audio, unless windows are full. Joined windows are pieces of what the
    extractor gives for the whole audio, filled up with silence to whole windows.

    Raises `AudioError` for a waveform that is empty or not one-dimensional.
    """
    wave = np.asarray(samples, dtype=np.float32)
    if wave.ndim != 1 or not len(wave):
        raise AudioError(f"log-mel: a waveform of shape {wave.shape} must be (n,) with at least one sample")
    size = config.window_samples
    if config.joined:
        return _joined_windows(wave, config)
    alone = len(wave) <= size
    return (_window(wave[at : at + size], config, alone) for at in range(0, len(wave), size))


@lru_cache(maxsize=8)
def mel_filters(config: LogMelConfig) -> Array:
    """Triangular filters on Slaney's mel scale with Slaney's norm: (num_mel_bins, n_fft // 2 + 1), read-only.

    Formula: M. Slaney, Auditory Toolbox (1998), as in librosa's `filters.mel`.
    """
    top = _hertz_to_mel(MAX_FREQUENCY)
    edges = _mel_to_hertz(np.linspace(0.0, top, config.num_mel_bins + 2))  # Hz
    bins = np.linspace(0.0, config.sample_rate // 2, config.n_fft // 2 + 1)  # Hz
    width = np.diff(edges)
    rising = (bins - edges[:-2, None]) / width[:-1, None]
    falling = (edges[2:, None] - bins) / width[1:, None]
    unit_area = 2.0 / (edges[2:] - edges[:-2])
    filters = np.maximum(0.0, np.minimum(rising, falling)) * unit_area[:, None]
    result = filters.astype(np.float32)
    result.flags.writeable = False  # shared by every caller
    return result


def _hertz_to_mel(hertz: float) -> float:
    """Slaney's scale: 3/200 mel a hertz up to 1 kHz, above it 27 mel for a factor of 6.4."""
    return 15.0 + 27.0 * math.log(hertz / 1000.0) / math.log(6.4) if hertz > 1000.0 else hertz * 3.0 / 200.0


def _mel_to_hertz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * 6.4 ** ((mel - 15.0) / 27.0))


def _window(piece: Array, config: LogMelConfig, alone: bool) -> MelWindow:
    """The returned frames of one piece of at most `window_samples` samples."""
    rows = encoder_rows(len(piece), config, alone)
    frames = config.max_frames if config.full_windows else config.frames_of(rows)
    power = _log_mel_power(piece, config)
    floor = power.max() - np.float32(DYNAMIC_RANGE)
    mel = np.full((config.num_mel_bins, frames), max(floor, np.float32(SILENCE)), dtype=np.float32)
    heard = power[:, :frames]
    np.maximum(heard, floor, out=mel[:, : heard.shape[1]])
    return MelWindow((mel + np.float32(4.0)) / np.float32(4.0), rows)


def _joined_windows(wave: Array, config: LogMelConfig) -> Iterator[MelWindow]:
    """All frames of one window after the other; what is loudest in the whole clip bounds all of them."""
    windows, frames = -(-len(wave) // config.window_samples), config.max_frames
    power = _log_mel_power(wave, config, windows)
    floor = max(power.max() - np.float32(DYNAMIC_RANGE), np.float32(SILENCE))
    for at in range(0, windows * frames, frames):
        heard = power[:, at : at + frames]
        mel = np.full((config.num_mel_bins, frames), floor, dtype=np.float32)
        np.maximum(heard, floor, out=mel[:, : heard.shape[1]])
        yield MelWindow((mel + np.float32(4.0)) / np.float32(4.0), config.max_rows)


def _log_mel_power(piece: Array, config: LogMelConfig, windows: int = 1) -> Array:
    """log10 of the mel power of every frame that touches the audio: (num_mel_bins, touched).

    The audio is filled up with silence to so many windows, which are one. All later frames are SILENCE, so
    they cannot raise the maximum.
    """
    touched = min(windows * config.max_frames, -(-(len(piece) + config.n_fft // 2) // config.hop_length))
    padded = _reflect(piece, touched, config, windows)
    frames = np.lib.stride_tricks.sliding_window_view(padded, config.n_fft)[:: config.hop_length]
    hann, filters = _hann(config.n_fft), mel_filters(config).T
    power = np.empty((config.num_mel_bins, touched), dtype=np.float32)
    for at in range(0, touched, CHUNK_FRAMES):
        spectrum = np.fft.rfft(frames[at : at + CHUNK_FRAMES] * hann)  # (chunk, n_fft // 2 + 1)
        energy = (spectrum.real**2 + spectrum.imag**2).astype(np.float32, copy=False)
        power[:, at : at + CHUNK_FRAMES] = (energy @ filters).T
    return np.log10(np.maximum(power, np.float32(10.0**SILENCE)))


def _reflect(piece: Array, frames: int, config: LogMelConfig, windows: int) -> Array:
    """The samples under the first `frames` centred frames of the windows, as one, that `piece` opens.

    They are mirrored at both ends without repeating the end sample, as `torch.stft` does.
    """
    half, window = config.n_fft // 2, windows * config.window_samples
    padded = np.zeros((frames - 1) * config.hop_length + config.n_fft, dtype=np.float32)
    body = piece[: len(padded) - half]
    padded[half : half + len(body)] = body
    mirrored = piece[half:0:-1]
    padded[half - len(mirrored) : half] = mirrored
    if (beyond := len(padded) - half - window) > 0:
        last = half + window - 1
        padded[last + 1 :] = padded[last - beyond : last][::-1]
    return padded


@lru_cache(maxsize=8)
def _hann(size: int) -> Array:
    """Periodic Hann window (size,), read-only."""
    window = (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(size) / size)).astype(np.float32)
    window.flags.writeable = False
    return window
